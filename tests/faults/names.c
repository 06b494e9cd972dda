/* Preloaded into a sessiond whose Redis will move: looks one name up in a file that the test rewrites, as a name server
 * would change its answer. (A test cannot change /etc/hosts, and `localhost` has but one address on many machines.)
 *
 * Linux only (LD_PRELOAD). $SESSIOND_FAULTS_NAMES is the file; it holds the address of redis.moves.test. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *path = getenv("SESSIOND_FAULTS_NAMES");
    char address[64] = "";
    if (node == NULL || path == NULL || strcmp(node, "redis.moves.test") != 0) return real(node, service, hints, found);
    FILE *file = fopen(path, "r");
    if (file == NULL) return EAI_AGAIN;
    if (fgets(address, sizeof address, file) == NULL) address[0] = '\0';
    fclose(file);
    address[strcspn(address, "\n")] = '\0';
    return real(address, service, hints, found);
}
