"""Other frameworks that know nothing of jobs: CuPy and JAX, their waits as jobs and as the driver's own in turns
(`arms.py`). A line of JSON for each arm. Needs the framework, and
  LD_PRELOAD=libgpuos_job_preload.so python3 study/phase3/frameworks.py cupy|jax [ROUNDS] [--turn UNITS]
A unit is a product of matrices, looked at."""
import argparse, hashlib

from arms import measure

SIZE = 2048


def cupy():
    import cupy

    data = cupy.random.default_rng(1).standard_normal((SIZE, SIZE), dtype=cupy.float32)

    def unit():
        out = cupy.tanh(data @ data)
        cupy.cuda.get_current_stream().synchronize()
        return out

    return unit, lambda out: hashlib.md5(cupy.asnumpy(out).tobytes()).hexdigest()[:12]


def jax():
    import jax, numpy

    data = jax.random.normal(jax.random.key(1), (SIZE, SIZE))
    step = jax.jit(lambda data: jax.numpy.tanh(data @ data))
    return lambda: step(data).block_until_ready(), lambda out: hashlib.md5(numpy.asarray(out).tobytes()).hexdigest()[:12]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(". ")[0].replace("\n", " "))
    frameworks = {"cupy": cupy, "jax": jax}
    parser.add_argument("framework", choices=frameworks)
    parser.add_argument("rounds", type=int, nargs="?", default=10)
    parser.add_argument("--turn", type=int, default=200)
    options = parser.parse_args()
    unit, digest = frameworks[options.framework]()
    for _ in range(20):
        unit()
    measure(unit, digest, options.rounds, options.turn, mode=options.framework)


if __name__ == "__main__":
    main()
