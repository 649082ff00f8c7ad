/* Names resolved as a file says, instead of by name servers. Each of its lines is a name and the addresses, divided by commas, that the next
 * question for it is answered with; the last such line stays. Loaded in front of the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 64

typedef int (*Resolve)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { char name[128]; int asked; } known[MOST];

/* How often a name was asked for before. */
static int asked(const char *name) {
    int number = 0;
    pthread_mutex_lock(&lock);
    for (int at = 0; at < MOST; at++) {
        if (known[at].name[0] && strcmp(known[at].name, name)) continue;
        strncpy(known[at].name, name, sizeof known[at].name - 1);
        number = known[at].asked++;
        break;
    }
    pthread_mutex_unlock(&lock);
    return number;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    Resolve resolve = (Resolve)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *path = getenv("TEST_NAMES");
    FILE *file = path && name ? fopen(path, "r") : 0;
    char own[128], addresses[512], answer[512] = "", *rest;
    if (file) {
        int skipped = -1;
        while (fscanf(file, "%127s %511s", own, addresses) == 2) {
            if (strcmp(own, name)) continue;
            if (skipped < 0) skipped = asked(name);
            strcpy(answer, addresses);
            if (skipped-- == 0) break;
        }
        fclose(file);
    }
    if (!answer[0]) return resolve(name, service, hints, found);
    struct addrinfo **end = found;
    for (char *address = strtok_r(answer, ",", &rest); address; address = strtok_r(0, ",", &rest)) {
        int failed = resolve(address, service, hints, end);
        if (failed) return failed;
        while (*end) end = &(*end)->ai_next;
    }
    return 0;
}
