/* Preloaded into a sessiond: pretends another IPv6 configuration of the machine, which a test cannot change.
 *
 * Linux only (LD_PRELOAD). $SESSIOND_FAULTS_IPV6 is "none" (as after the kernel option ipv6.disable=1) or "only" (as with
 * net.ipv6.bindv6only = 1, where an IPv6 socket refuses IPv4 unless the program says otherwise). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int socket(int domain, int type, int protocol) {
    int (*real)(int, int, int);
    *(void **)&real = dlsym(RTLD_NEXT, "socket");
    const char *mode = getenv("SESSIOND_FAULTS_IPV6");
    if (domain != AF_INET6 || mode == NULL) return real(domain, type, protocol);
    if (strcmp(mode, "none") == 0) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    int on = 1, descriptor = real(domain, type, protocol);
    if (descriptor >= 0) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    return descriptor;
}
