/* Shifts this process's wall clock by the seconds in the file that COMMFORGE_CLOCK_FILE names: 8 bytes, an int64.
 *
 * Loaded by LD_PRELOAD. The file is mapped, so a change of it is a jump of the clock in every process at once, as when
 * an operator or NTP sets the machine's clock. Steady clocks do not jump, and neither do the times that the kernel
 * gives to files: a process sees its own new files as a day old, or as not yet made.
 *
 * Waits that name a moment of the wall clock are moved back: the kernel's clock did not jump, and a wait that became a
 * day long would be our doing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_sem_timedwait)(sem_t *, const struct timespec *);
static int (*real_mutex_timedlock)(pthread_mutex_t *, const struct timespec *);

static int64_t seconds(void) { return shift ? *shift : 0; }

__attribute__((constructor)) static void map_the_shift(void) {
    const char *path = getenv("COMMFORGE_CLOCK_FILE");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    /* x86-64 also has a condition variable of 2002 under this name, with another layout. */
    real_cond_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real_cond_timedwait)
        real_cond_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    real_sem_timedwait = dlsym(RTLD_NEXT, "sem_timedwait");
    real_mutex_timedlock = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED)
        shift = page;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime) /* another library's constructor was first */
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        now->tv_sec += seconds();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (result)
        *result = precise.tv_sec;
    return precise.tv_sec;
}

/* A moment is one of the shifted wall clock when it lies closer to that clock's now than to the steady clock's:
 * condition variables do not tell which clock they were made for. */
static struct timespec kernels(const struct timespec *moment) {
    struct timespec wall, steady, moved = *moment;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &steady);
    if (moment->tv_sec > (wall.tv_sec + steady.tv_sec) / 2)
        moved.tv_sec -= seconds();
    return moved;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict moment) {
    struct timespec moved = kernels(moment);
    return real_cond_timedwait(cond, mutex, &moved);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict moment) {
    struct timespec moved = kernels(moment);
    return real_sem_timedwait(semaphore, &moved);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict moment) {
    struct timespec moved = kernels(moment);
    return real_mutex_timedlock(mutex, &moved);
}
