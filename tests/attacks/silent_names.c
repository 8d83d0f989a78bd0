/* A resolver that does not return for names below silent.test, longer than any timeout of the operator. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	static const char suffix[] = ".silent.test";
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	size_t length = node ? strlen(node) : 0;

	if (length >= sizeof(suffix) && strcmp(node + length - (sizeof(suffix) - 1), suffix) == 0) {
		sleep(120);
		return EAI_AGAIN;
	}
	*(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
	return next(node, service, hints, found);
}
