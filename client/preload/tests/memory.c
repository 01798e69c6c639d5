/* A program that allocates and frees, and knows nothing of what becomes of it. Prints how often the driver was asked for memory, and
 * how many of its blocks are there at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

typedef int code;
static code (*cuMemAlloc_v2)(uint64_t *, size_t);
static code (*cuMemFree_v2)(uint64_t);
static code (*cuCtxDestroy_v2)(void *);
static uint32_t (*fake_allocations)(void);
static size_t (*fake_blocks)(void);
static void (*fake_memory)(uint64_t);
static int (*jobs)(int);

static void find(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    *(void **)&cuMemAlloc_v2 = dlsym(driver, "cuMemAlloc_v2");
    *(void **)&cuMemFree_v2 = dlsym(driver, "cuMemFree_v2");
    *(void **)&cuCtxDestroy_v2 = dlsym(driver, "cuCtxDestroy_v2");
    *(void **)&fake_allocations = dlsym(driver, "fake_allocations");
    *(void **)&fake_blocks = dlsym(driver, "fake_blocks");
    *(void **)&fake_memory = dlsym(driver, "fake_memory");
    *(void **)&jobs = dlsym(RTLD_DEFAULT, "gpuos_job_preload_switch");
}

static void tell(const char *what)
{
    printf("%s: asked %u has %zu\n", what, fake_allocations(), fake_blocks());
}

int main(void)
{
    uint64_t one, two, three;
    find();
    for (int i = 0; i < 100; i++) {
        /* Two sizes, freed in the other order. */
        if (cuMemAlloc_v2(&one, 1 << 20) != 0 || cuMemAlloc_v2(&two, 1 << 16) != 0 || one == two) {
            return 1;
        }
        cuMemFree_v2(one);
        cuMemFree_v2(two);
    }
    tell("again");
    /* All there is: what is kept goes back first. */
    fake_memory((1 << 20) + (1 << 16));
    code failed = cuMemAlloc_v2(&three, 900000);
    printf("larger %d, ", failed);
    tell("after");
    failed = cuMemAlloc_v2(&two, 1 << 20);
    printf("too much %d\n", failed);
    cuMemFree_v2(three);
    /* No block of a context outlives it. */
    cuCtxDestroy_v2((void *)8);
    tell("destroyed");
    cuMemAlloc_v2(&three, 900000);
    tell("anew");
    printf("twice %d %d, none %d\n", cuMemFree_v2(three), cuMemFree_v2(0xdead0000), cuMemFree_v2(0) != 0);
    /* Once it is switched off nothing is kept. */
    cuMemAlloc_v2(&one, 1000);
    cuMemFree_v2(one);
    if (jobs != NULL) {
        jobs(0);
    }
    printf("off %zu\n", fake_blocks());
    return 0;
}
