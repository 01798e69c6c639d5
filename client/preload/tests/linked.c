/* A program that is linked with the driver, or with HIP: calls of its functions, and the address of one. */
#include <stdint.h>
#include <stdio.h>

typedef int code;
typedef void *handle;
#ifdef HIP
#define cuLaunchKernel hipModuleLaunchKernel
#define cuStreamCreate hipStreamCreateWithFlags
#define cuStreamSynchronize hipStreamSynchronize
#define cuCtxSynchronize hipDeviceSynchronize
#endif
code cuLaunchKernel(handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, handle *, handle *);
code cuStreamCreate(handle *, unsigned);
code cuStreamSynchronize(handle);
code cuCtxSynchronize(void);
uint32_t fake_done(void);

int main(void)
{
    handle stream;
    uint32_t launched = 0;
    int early = 0;
    code (*volatile wait_for_all)(void) = cuCtxSynchronize;
    cuStreamCreate(&stream, 0);
    for (int i = 0; i < 40; i++) {
        cuLaunchKernel((handle)300, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
        cuStreamSynchronize(stream);
        early += fake_done() < ++launched;
        cuLaunchKernel((handle)500, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
        wait_for_all();
        early += fake_done() < ++launched;
    }
    printf("launched %u early %d\n", launched, early);
    return 0;
}
