"""A serving stack that knows nothing of jobs: transformers' `generate`, and its continuous batching, whose loop is a thread of its
own. A network of Llama's shape with random weights, its waits as jobs and as the driver's own in turns (`arms.py`). A line of JSON
for each arm. Needs PyTorch and transformers, and
  LD_PRELOAD=libgpuos_job_preload.so python3 study/phase3/serve.py generate|batching [ROUNDS] [--blocking]
A unit of `generate` is 64 tokens for each of 8 prompts; of `batching` 64 requests of 8 to 135 tokens that ask for 64 more."""
import argparse, hashlib

from arms import block, measure

TOKENS = 64
VOCABULARY = 32000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(". ")[0].replace("\n", " "))
    parser.add_argument("mode", choices=["generate", "batching"])
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--blocking", action="store_true", help="waits of the driver sleep, as with cudaDeviceScheduleBlockingSync")
    options = parser.parse_args()
    if options.blocking:
        block()
    import torch, transformers

    torch.manual_seed(1)
    shape = dict(hidden_size=2048, intermediate_size=5632, num_hidden_layers=16, num_attention_heads=16, num_key_value_heads=8)
    config = transformers.LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=1024, **shape)
    module = transformers.LlamaForCausalLM(config).cuda().half().eval()
    random = torch.Generator().manual_seed(2)
    about = {"mode": options.mode, "blocking": options.blocking}

    def digest(out):
        return hashlib.md5(repr(out).encode()).hexdigest()[:12]

    if options.mode == "generate":
        prompts = torch.randint(3, VOCABULARY, (8, 32), generator=random).cuda()
        settings = dict(max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, pad_token_id=0)

        def unit():
            return module.generate(prompts, attention_mask=torch.ones_like(prompts), **settings).tolist()

        measure(unit, digest, options.rounds, 3, warm=1, **about)
        return
    prompts = [torch.randint(3, VOCABULARY, (8 + 2 * number,), generator=random).tolist() for number in range(64)]
    settings = transformers.GenerationConfig(max_new_tokens=TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = transformers.ContinuousBatchingConfig(max_memory_percent=0.3)
    with module.continuous_batching_context_manager(generation_config=settings, continuous_batching_config=batching) as manager:

        def unit():
            asked = manager.add_requests(inputs=prompts, max_new_tokens=TOKENS)
            results = {}
            while len(results) < len(asked):
                result = manager.get_result(timeout=5)
                if result is not None and result.is_finished():
                    results[result.request_id] = result.generated_tokens
                elif result is None and not manager.is_running():
                    raise SystemExit("serve.py: the loop of continuous batching has ended")
            return [results[name] for name in asked]

        measure(unit, digest, options.rounds, 3, warm=1, **about)


if __name__ == "__main__":
    main()
