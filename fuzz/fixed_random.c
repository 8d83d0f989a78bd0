/* Preloaded for reproducible fuzzing: returns fixed numbers instead of random ones. The standard library seeds its hash maps with them,
   and the order of a map influences the fuzzer; ring uses them for signatures, and calls the kernel directly. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>

ssize_t getrandom(void *to, size_t length, unsigned flags) {
  (void)flags;
  memset(to, 7, length);
  return (ssize_t)length;
}

long syscall(long number, ...) {
  long arguments[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
  va_end(list);
  if (number == SYS_getrandom) return getrandom((void *)arguments[0], (size_t)arguments[1], 0);
  long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}
