/* Preloaded into a redis-server whose power a test will cut: notes for each file how much of it was surely on the
 * disk, so that the test can take away the rest. A kill alone takes nothing away, as the kernel keeps what was written.
 *
 * The disk is imitated, too: it takes $SESSIOND_FAULTS_DISK milliseconds for each, and not what the disk of this machine
 * takes while others compile on it. Nothing real needs to be synced, as the power does not really fail.
 *
 * Linux only (LD_PRELOAD). A note is a file in $SESSIOND_FAULTS_NOTES, named after the inode, that holds the size in
 * eight bytes: one pwrite, so that a kill leaves the old one or the new one. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int noted(int fd) {
    const char *folder = getenv("SESSIOND_FAULTS_NOTES");
    const char *disk = getenv("SESSIOND_FAULTS_DISK");
    long milliseconds = disk == NULL ? 0 : atol(disk);
    struct timespec takes = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    struct stat before;
    /* Before it begins: what is written while it runs may or may not be covered. */
    if (fstat(fd, &before) != 0) return -1;
    if (!S_ISREG(before.st_mode) || folder == NULL) return 0;
    while (nanosleep(&takes, &takes) != 0) {}
    char path[4096];
    snprintf(path, sizeof path, "%s/fsynced-%llu", folder, (unsigned long long)before.st_ino);
    int note = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    uint64_t size = (uint64_t)before.st_size;
    if (note < 0 || pwrite(note, &size, sizeof size, 0) != sizeof size) abort();
    close(note);
    return 0;
}

int fsync(int fd) { return noted(fd); }

int fdatasync(int fd) { return noted(fd); }
