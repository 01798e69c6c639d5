// An independent reference counter of ioctls on GPU devices: preloaded into a program, it counts each call by device, command,
// sub-command and status, as the C library's callers make it. Nothing here is shared with gpuos-trace.
//   cc -O2 -shared -fPIC -o oracle.so oracle.c -ldl && ORACLE=out.txt LD_PRELOAD=./oracle.so program
// Offsets are those of driver 580 (NVIDIA/open-gpu-kernel-modules): nvos.h, nv-ioctl.h, uvm_ioctl.h.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct row { char device[40]; uint32_t command, word; uint64_t calls, errors, refused; uint32_t status; };
static struct row rows[8192];
static int used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// Objects by client and handle, to say what a handle is when it comes again; `known` is their class, or 2^30 and the
// function where the video heap made them.
struct object { uint32_t client, handle, known; };
static struct object objects[65536];
static int made;
enum { NOT_KNOWN = 0xfffffffd, BY_HEAP = 0x40000000 };

static struct object *object_of(uint32_t client, uint32_t handle) {
    if (!client) client = handle;
    for (int i = 0; i < made; i++)
        if (objects[i].client == client && objects[i].handle == handle) return &objects[i];
    return 0;
}

static uint32_t known(uint32_t client, uint32_t handle) {
    struct object *object = object_of(client, handle);
    return object ? object->known : NOT_KNOWN;
}

static void learn(uint32_t client, uint32_t handle, uint32_t as) {
    struct object *object = object_of(client, handle);
    if (!object && made < 65536) object = &objects[made++];
    if (object) *object = (struct object){client ? client : handle, handle, as};
}

static void forget(uint32_t client, uint32_t handle) {
    struct object *object = object_of(client, handle);
    if (object) *object = objects[--made];
}

static uint32_t at(const void *argument, size_t offset) {
    uint32_t word;
    memcpy(&word, (const char *)argument + offset, 4);
    return word;
}

// Where UVM commands of driver 580 keep rmStatus; -1 where this program does not look.
static int uvm_status_at(uint32_t command) {
    switch (command) {
    case 0x30000001: return 8;   // UVM_INITIALIZE
    case 75: return 4;           // UVM_MM_INITIALIZE
    case 39: return 4;           // UVM_PAGEABLE_MEM_ACCESS
    case 37: return 36;          // UVM_REGISTER_GPU
    case 38: return 16;          // UVM_UNREGISTER_GPU
    case 25: return 28;          // UVM_REGISTER_GPU_VASPACE
    case 26: return 16;          // UVM_UNREGISTER_GPU_VASPACE
    case 27: return 48;          // UVM_REGISTER_CHANNEL
    case 28: return 24;          // UVM_UNREGISTER_CHANNEL
    case 33: return 9260;        // UVM_MAP_EXTERNAL_ALLOCATION
    case 34: return 16;          // UVM_FREE
    case 73: return 16;          // UVM_CREATE_EXTERNAL_RANGE
    case 68: return 9240;        // UVM_ALLOC_SEMAPHORE_POOL
    case 65: return 32;          // UVM_MAP_DYNAMIC_PARALLELISM_REGION
    case 72: return 16;          // UVM_VALIDATE_VA_RANGE
    case 23: return 8;           // UVM_CREATE_RANGE_GROUP
    default: return -1;
    }
}

int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    char link[32], device[40] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, device, sizeof device - 1);
    int gpu = length > 0 && (!strncmp(device, "/dev/nvidia", 11));
    uint32_t command = request, word = 0, number = command & 0xff, size = command >> 16 & 0x3fff;
    int uvm = gpu && !strncmp(device, "/dev/nvidia-uvm", 15);
    if (gpu && !uvm) {
        if (number == 0x2a || number == 0x4a) word = at(argument, 8);
        if (number == 0x2b || number == 0x27) word = at(argument, 12);
        pthread_mutex_lock(&lock);
        if (number == 0x29 || number == 0x4e || number == 0x4f || number == 0x58) word = known(at(argument, 0), at(argument, 8));
        if (number == 0x57) word = known(at(argument, 0), at(argument, 12));
        if (number == 0x34) word = known(at(argument, 12), at(argument, 16));
        pthread_mutex_unlock(&lock);
    }
    int result = syscall(SYS_ioctl, fd, request, argument);
    if (!gpu) return result;
    int saved = errno, where = -1;
    if (uvm) where = uvm_status_at(command);
    else if (number == 0x2a) where = 28;
    else if (number == 0x2b) where = size == 48 ? 40 : 28;
    else if (number == 0x29) where = 12;
    else if (number == 0x27) where = 40;
    else if (number == 0x4e) where = 40;
    else if (number == 0x4f) where = 24;
    else if (number == 0x34) where = 24;
    else if (number == 0x4a) where = 20;
    else if (number == 0x57) where = 56;
    else if (number == 0x58) where = 40;
    else if (number == 0x35) where = 20;
    else if (number == 0x41) where = 48;
    uint32_t status = where >= 0 && result >= 0 ? at(argument, where) : 0;
    pthread_mutex_lock(&lock);
    if (!uvm && where >= 0 && result >= 0 && !status) {
        uint32_t client = at(argument, 0);
        if (number == 0x2b || number == 0x27 || number == 0x34) learn(client, at(argument, 8), word);
        if (number == 0x29) forget(client, at(argument, 8));
        // NVOS32_FUNCTION_ALLOC_SIZE and _FREE keep an owner before the handle, _ALLOC_OS_DESCRIPTOR does not.
        if (number == 0x4a && word == 2) learn(client, at(argument, 44), BY_HEAP | word);
        if (number == 0x4a && word == 27) learn(client, at(argument, 40), BY_HEAP | word);
        if (number == 0x4a && word == 3) forget(client, at(argument, 44));
    }
    int row = 0;
    while (row < used && !(rows[row].command == command && rows[row].word == word && !strcmp(rows[row].device, device))) row++;
    if (row < 8192) {
        if (row == used) { used++; strcpy(rows[row].device, device); rows[row].command = command; rows[row].word = word; }
        rows[row].calls++;
        rows[row].errors += result < 0;
        if (status) { rows[row].refused++; rows[row].status = status; }
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

__attribute__((destructor)) static void write_rows(void) {
    const char *name = getenv("ORACLE");
    FILE *file = name ? fopen(name, "a") : 0;
    if (!file) return;
    for (int row = 0; row < used; row++)
        fprintf(file, "%s,%u,%u,%llu,%llu,%llu,%u\n", rows[row].device, rows[row].command, rows[row].word,
                (unsigned long long)rows[row].calls, (unsigned long long)rows[row].errors,
                (unsigned long long)rows[row].refused, rows[row].status);
    fclose(file);
}
