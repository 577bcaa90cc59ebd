/* Shifts the boot and the wall clock of one process, and leaves its monotonic clock alone: that is
 * what a machine's sleep looks like, and what somebody who sets the clock does.
 *
 * Preloaded. By how much is in a file of three 64-bit integers, in nanoseconds, that the test
 * writes while the process runs: the boot clock's shift, the wall clock's, and by how much every
 * other reading of the wall clock goes backwards.
 *
 * libc's callers come through the symbol `clock_gettime`. Callers of the kernel's own function, the
 * vDSO's, ask `getauxval` for where that is: they are given a copy with a jump in it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
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

/* The kernel's functions, with ours in the place of clock_gettime. */
static unsigned long patched(unsigned long original) {
    static unsigned long copy;
    if (copy != 0) {
        return copy;
    }
    void *library = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
    size_t size = 2 * (size_t)sysconf(_SC_PAGESIZE);
    char *entry = library ? dlsym(library, "__vdso_clock_gettime") : NULL;
    unsigned char jump[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0}; /* mov rax; jmp rax */
    size_t address = 2;
    size_t at = (size_t)(entry - (char *)original);
    char *image = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (entry == NULL || at + sizeof jump > size || image == MAP_FAILED) {
        abort(); /* rather than a test that tests nothing */
    }
    /* The kernel maps as many pages as it needs: one or two. */
    for (size_t page = 0; page < size; page += size / 2) {
        if (page == 0 || at >= page || msync((char *)original + page, 1, MS_ASYNC) == 0) {
            memcpy(image + page, (char *)original + page, size / 2);
        }
    }
    uint64_t target = (uint64_t)(uintptr_t)clock_gettime;
    memcpy(jump + address, &target, sizeof target);
    memcpy(image + at, jump, sizeof jump);
    __builtin___clear_cache(image, image + size);
    copy = (unsigned long)(uintptr_t)image;
    return copy;
}

unsigned long getauxval(unsigned long type) {
    static unsigned long (*next)(unsigned long);
    if (next == NULL) {
        next = (unsigned long (*)(unsigned long))dlsym(RTLD_NEXT, "getauxval");
    }
    unsigned long value = next(type);
    return type == AT_SYSINFO_EHDR && value != 0 ? patched(value) : value;
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
