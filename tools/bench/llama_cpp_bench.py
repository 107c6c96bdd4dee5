"""Times llama.cpp through its C interface: one prompt, then greedy decode of one token at a time.

usage: llama_cpp_bench.py MODEL.gguf PROMPT_TOKENS OUTPUT_TOKENS THREADS
Prints one JSON object with the keys of `mili-worker --bench --json`.
"""

import ctypes
import json
import sys
import time

import llama_cpp


def main():
    path, prompt_tokens, output_tokens, threads = sys.argv[1], *map(int, sys.argv[2:5])
    quiet = llama_cpp.llama_log_callback(lambda *_: None)  # must outlive every call
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(),
                                                 llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = prompt_tokens + output_tokens + 16
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def decode(ids):
        array = (llama_cpp.llama_token * len(ids))(*ids)
        code = llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(ids)))
        llama_cpp.llama_synchronize(context)
        if code != 0:
            sys.exit(f"llama_decode failed with {code}")

    prompt = [(17 * i + 5) % min(vocab_size, 1000) for i in range(prompt_tokens)]
    timings = []
    for is_warm in (False, True):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        start = time.perf_counter()
        decode(prompt)
        prefill_s = time.perf_counter() - start
        start = time.perf_counter()
        for i in range(output_tokens):
            decode([(31 * i + 7) % min(vocab_size, 1000)])
        decode_s = time.perf_counter() - start
        if is_warm:
            timings = (prefill_s, decode_s)
    print(json.dumps({"prefill_tokens_per_s": prompt_tokens / timings[0],
                      "decode_tokens_per_s": output_tokens / timings[1]}))


if __name__ == "__main__":
    main()
