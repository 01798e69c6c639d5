/* A program that calls one function of the C library. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    printf("%d\n", getppid() > 0);
    return 0;
}
