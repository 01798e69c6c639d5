/* A program that knows nothing of jobs: launches, and waits for streams, events and the context, by every way to find the driver's
 * functions. Says whether a wait ever returned before its work was done. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int code;
typedef void *handle;

static code (*launch)(handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, handle *, handle *);
static code (*wait_stream)(handle);
static code (*wait_context)(void);
static code (*wait_context_of)(handle);
static code (*record)(handle, handle);
static code (*wait_event)(handle);
static uint32_t (*done)(void);
static int early;

static void run(handle kernel, handle stream)
{
    if (launch(kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL) != 0) {
        exit(3);
    }
}

static void *later(void *stream)
{
    usleep(20000);
    run((handle)500000, stream);
    return NULL;
}

/* By turns the form without an argument, with none named, and with the current one. */
static void wait_for_all(int round)
{
    code failed = wait_context_of == NULL ? wait_context() : wait_context_of(round % 2 == 0 ? NULL : (handle)8);
    if (failed != 0) {
        exit(4);
    }
}

static void check(uint32_t launched)
{
    early += done() < launched;
}

int main(int count, char **words)
{
    int rounds = count > 2 ? atoi(words[2]) : 40;
    code (*make)(handle *, unsigned);
    handle driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) {
        puts(dlerror());
        return 2;
    }
    code (*get)(const char *, handle *, int, uint64_t, int *);
    *(handle *)&get = dlsym(driver, "cuGetProcAddress_v2");
    *(handle *)&done = dlsym(driver, "fake_done");
    if (count > 1 && strcmp(words[1], "dlsym") == 0) {
        *(handle *)&launch = dlsym(driver, "cuLaunchKernel");
        *(handle *)&wait_stream = dlsym(driver, "cuStreamSynchronize");
        *(handle *)&wait_context = dlsym(driver, "cuCtxSynchronize");
        *(handle *)&record = dlsym(driver, "cuEventRecord");
        *(handle *)&wait_event = dlsym(driver, "cuEventSynchronize");
    } else if (strcmp(words[1], "before-12") == 0) {
        code (*get_before)(const char *, handle *, int, uint64_t);
        *(handle *)&get_before = dlsym(driver, "cuGetProcAddress");
        get_before("cuLaunchKernel", (handle *)&launch, 11030, 0);
        get_before("cuStreamSynchronize", (handle *)&wait_stream, 11030, 0);
        get_before("cuCtxSynchronize", (handle *)&wait_context, 11030, 0);
        get_before("cuEventRecord", (handle *)&record, 11030, 0);
        get_before("cuEventSynchronize", (handle *)&wait_event, 11030, 0);
    } else {
        handle again;
        int status = 7;
        /* The form with a status, found by itself; a status that is not asked for. */
        get("cuGetProcAddress", &again, 13000, 0, NULL);
        *(handle *)&get = again;
        get("cuLaunchKernel", (handle *)&launch, 13000, 0, &status);
        get("cuStreamSynchronize", (handle *)&wait_stream, 13000, 0, &status);
        get("cuCtxSynchronize", (handle *)&wait_context_of, 13000, 0, &status);
        get("cuEventRecord", (handle *)&record, 13000, 0, &status);
        get("cuEventSynchronize", (handle *)&wait_event, 13000, 0, &status);
        if (status != 0) {
            return 5;
        }
    }
    *(handle *)&make = dlsym(driver, "cuStreamCreate");
    handle one, other;
    make(&one, 0);
    make(&other, 0);
    if (strcmp(words[1], "tomorrow") == 0) {
        int status;
        code (*wait_event_of)(uint64_t, handle);
        get("cuEventSynchronize", (handle *)&wait_event_of, 99000, 0, &status);
        run((handle)300, one);
        record((handle)77, one);
        code failed = wait_event_of(0, (handle)77);
        printf("failed %d done %u\n", failed, done());
        return 0;
    }
    if (strcmp(words[1], "later") == 0) {
        /* Another thread queues more while this one waits: that is not waited for. */
        pthread_t thread;
        run((handle)100000, one);
        pthread_create(&thread, NULL, later, one);
        wait_stream(one);
        printf("done %u\n", done());
        fflush(stdout);
        pthread_join(thread, NULL);
        return 0;
    }
    if (strcmp(words[1], "captured") == 0) {
        code (*begin)(handle, int), (*end)(handle, handle *);
        *(handle *)&begin = dlsym(driver, "cuStreamBeginCapture_v2");
        *(handle *)&end = dlsym(driver, "cuStreamEndCapture");
        handle graph;
        begin(other, 0);
        run((handle)300, one);
        wait_stream(one);
        end(other, &graph);
        run((handle)300, one);
        wait_stream(one);
        printf("done %u\n", done());
        return 0;
    }
    if (strcmp(words[1], "destroyed") == 0) {
        code (*destroy)(handle);
        *(handle *)&destroy = dlsym(driver, "cuStreamDestroy_v2");
        run((handle)300, one);
        destroy(one);
        wait_for_all(0);
        run((handle)300, other);
        wait_for_all(0);
        printf("done %u\n", done());
        return 0;
    }
    if (strcmp(words[1], "copies") == 0) {
        /* Into memory of `malloc` a copy waits for what is before it; into pinned memory the wait after it does. */
        code (*copy)(void *, uint64_t, size_t, handle), (*allocate)(uint64_t *, size_t);
        void (*pin)(uint64_t);
        *(handle *)&copy = dlsym(driver, "cuMemcpyDtoHAsync_v2");
        *(handle *)&allocate = dlsym(driver, "cuMemAlloc_v2");
        *(handle *)&pin = dlsym(driver, "fake_pin");
        uint64_t memory;
        char pageable[64], pinned[64];
        allocate(&memory, 64);
        pin((uint64_t)pinned);
        uint32_t begun = 0;
        for (int i = 0; i < rounds; i++) {
            run((handle)300, one);
            check((copy(pageable, memory, 64, one), begun += 1));
            wait_stream(one);
            run((handle)500, one);
            copy(pageable, memory, 0, one);
            copy(pinned, memory, 64, one);
            check((wait_stream(one), begun += 1));
        }
        printf("launched %u early %d\n", begun, early);
        return 0;
    }
    if (strcmp(words[1], "ranges") == 0) {
        handle ranges = dlopen(getenv("RANGES"), RTLD_NOW);
        int (*push)(const char *);
        int (*pop)(void);
        *(handle *)&push = dlsym(ranges, "roctxRangePushA");
        *(handle *)&pop = dlsym(ranges, "roctxRangePop");
        uint32_t begun = 0;
        for (int i = 0; i < rounds; i++) {
            push("batch");
            run((handle)300, one);
            pop();
            check((wait_stream(one), begun += 1));
            push("batch");
            run((handle)100, other);
            check((wait_stream(other), begun += 1));
            pop();
        }
        printf("launched %u early %d\n", begun, early);
        return 0;
    }
    uint32_t launched = 0;
    for (int i = 0; i < rounds; i++) {
        /* Three kinds of work: one kernel, two kernels, both streams at once. */
        run((handle)300, one);
        check((wait_stream(one), launched += 1));
        run((handle)100, one);
        run((handle)200, one);
        record((handle)77, one);
        check((wait_event((handle)77), launched += 2));
        run((handle)200, one);
        run((handle)400, other);
        check((wait_for_all(i), launched += 2));
        /* Nothing is left to wait for. */
        wait_stream(one);
    }
    printf("launched %u early %d\n", launched, early);
    return 0;
}
