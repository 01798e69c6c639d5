/* Marks phases of a program, for gpuos-trace to count by: gpuos_phase_switch("work").
 *
 * A marker is one system call that fails at once; without a tracer it does nothing. errno stays as it was.
 * Labels are UTF-8 of at most 63 bytes. Phases belong to the process (mark them from one thread), a thread's
 * ranges to the thread; eight of each may be open inside each other. SPDX: MIT OR Apache-2.0 */
#ifndef GPUOS_PHASE_H
#define GPUOS_PHASE_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

struct gpuos_marker {
    uint32_t operation; /* 1 begin, 2 end, 3 switch, 4 iterations */
    uint32_t scope;     /* 0 process, 1 thread */
    uint64_t count;     /* iterations */
    char label[64];
};

#define GPUOS_MARKER 0x47505553u /* "GPUS", on descriptor -1 */

static inline void gpuos_mark(uint32_t operation, uint32_t scope, uint64_t count, const char *label)
{
    struct gpuos_marker marker;
    int saved = errno;
    memset(&marker, 0, sizeof marker);
    marker.operation = operation;
    marker.scope = scope;
    marker.count = count;
    if (label)
        strncpy(marker.label, label, sizeof marker.label - 1);
    ioctl(-1, GPUOS_MARKER, &marker);
    errno = saved;
}

static inline void gpuos_phase_begin(const char *label) { gpuos_mark(1, 0, 0, label); }
static inline void gpuos_phase_end(void) { gpuos_mark(2, 0, 0, 0); }
static inline void gpuos_phase_switch(const char *label) { gpuos_mark(3, 0, 0, label); }
static inline void gpuos_phase_iterations(uint64_t count) { gpuos_mark(4, 0, count, 0); }
static inline void gpuos_thread_begin(const char *label) { gpuos_mark(1, 1, 0, label); }
static inline void gpuos_thread_end(void) { gpuos_mark(2, 1, 0, 0); }

#endif
