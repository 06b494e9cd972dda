/* Preloaded into a redis-server whose power a test will cut: notes for each file how much of it was surely on the
 * disk, so that the test can take away the rest. A kill alone takes nothing away, as the kernel keeps what was written.
 *
 * Linux only (LD_PRELOAD). A note is a file in $SESSIOND_FAULTS_NOTES, named after the inode, that holds the size in
 * eight bytes: one pwrite, so that a kill leaves the old one or the new one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int noted(int fd, const char *name) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *folder = getenv("SESSIOND_FAULTS_NOTES");
    struct stat before;
    /* Before the call: what is written while it runs may or may not be covered. */
    int known = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int result = real(fd);
    if (result == 0 && known && folder != NULL) {
        char path[4096];
        snprintf(path, sizeof path, "%s/fsynced-%llu", folder, (unsigned long long)before.st_ino);
        int note = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (note >= 0) {
            uint64_t size = (uint64_t)before.st_size;
            if (pwrite(note, &size, sizeof size, 0) != sizeof size) abort();
            close(note);
        }
    }
    return result;
}

int fsync(int fd) { return noted(fd, "fsync"); }

int fdatasync(int fd) { return noted(fd, "fdatasync"); }
