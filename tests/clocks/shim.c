/* Shifts the boot and the wall clock of one process, and leaves its monotonic clock alone: that is
 * what a machine's sleep looks like, and what somebody who sets the clock does.
 *
 * Preloaded. By how much is in a file of three 64-bit integers, in nanoseconds, that the test
 * writes while the process runs: the boot clock's shift, the wall clock's, and by how much every
 * other reading of the wall clock goes backwards.
 *
 * Everything that reads a clock comes through libc's `clock_gettime`, as it must for `faketime` too.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *shifts;
static atomic_uint readings;

static void shift(struct timespec *time, int64_t nanoseconds) {
    int64_t sum = (int64_t)time->tv_nsec + nanoseconds % 1000000000;
    time->tv_sec += nanoseconds / 1000000000 + sum / 1000000000;
    time->tv_nsec = sum % 1000000000;
    if (time->tv_nsec < 0) {
        time->tv_nsec += 1000000000;
        time->tv_sec -= 1;
    }
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result != 0 || shifts == NULL) {
        return result;
    }
    if (clock == CLOCK_BOOTTIME) {
        shift(time, shifts[0]);
    } else if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        shift(time, shifts[1]);
        if (atomic_fetch_add(&readings, 1) % 2 == 1) {
            shift(time, -shifts[2]);
        }
    }
    return result;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("TEST_CLOCK_SHIFTS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, 24, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        abort();
    }
    close(file);
    shifts = mapped;
}
