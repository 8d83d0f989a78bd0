/* A resolver with changing results: names below rebinding.test resolve alternately to 127.0.0.1 and 127.0.0.2; names
 * below both.test resolve to both addresses. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

typedef int resolve(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int is_below(const char *name, const char *domain)
{
	size_t length = name ? strlen(name) : 0, suffix = strlen(domain);

	return length > suffix && strcmp(name + length - suffix, domain) == 0;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	static atomic_uint lookups;
	struct addrinfo *other = NULL;
	resolve *next;
	int error;

	*(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
	if (is_below(node, ".rebinding.test"))
		return next(atomic_fetch_add(&lookups, 1) % 2 ? "127.0.0.2" : "127.0.0.1", service, hints, found);
	if (!is_below(node, ".both.test"))
		return next(node, service, hints, found);
	error = next("127.0.0.1", service, hints, found);
	if (error)
		return error;
	error = next("127.0.0.2", service, hints, &other);
	if (error)
		return error;
	/* Joined into one list, which freeaddrinfo frees completely. */
	for (struct addrinfo *last = *found;; last = last->ai_next) {
		if (!last->ai_next) {
			last->ai_next = other;
			return 0;
		}
	}
}
