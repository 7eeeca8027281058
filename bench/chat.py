"""How the chat server holds under load: first token, throughput, 50 clients, memory, leaving.

    python bench/chat.py --out chat.json
    python bench/chat.py --requests 200 --model outputs/tiny-dpo-merged

The server is a process of its own on this machine, and so are the clients, on the same cores.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[1]
QUESTIONS = ("头痛怎么办？", "感冒了能不能洗澡？", "高血压平时饮食要注意什么？", "失眠看什么科？")
NUM_TOKENS = 96  # of each answer whose speed is measured


def main() -> None:
    """Start a server, measure, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-glm")
    parser.add_argument("--requests", type=int, default=2000, help="of the search for a leak")
    parser.add_argument("--out", type=Path, default=Path("chat.json"))
    arguments = parser.parse_args()
    command = [
        sys.executable, "-u", str(ROOT / "chat.py"), "--model_name_or_path", arguments.model,
        "--api", "True", "--port", "0", "--no_log", "True",
    ]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as server:  # type: ignore[call-overload]
        try:
            url = server.stdout.readline().strip()
            report = asyncio.run(measure(url, psutil.Process(server.pid), arguments.requests))
        finally:
            server.terminate()
    text = json.dumps({"model": arguments.model, "cpu_count": os.cpu_count(), **report}, indent=2)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


async def measure(url: str, server: psutil.Process, num_requests: int) -> dict[str, Any]:
    """Return all numbers."""
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False) as web:
        await ask(web, 0)
        alone = [await ask(web, number) for number in range(20)]
        rounds = [(await throughput(web, 1, 8), await throughput(web, 8, 64)) for _ in range(7)]
        crowd = await asyncio.gather(*(ask(web, number) for number in range(50)))
        left = [await leave(web) for _ in range(3)]
        memory = await many(web, server, num_requests)
    return {
        "first_token_ms_median": round(1000 * statistics.median(a["first"] for a in alone), 1),
        "first_token_ms_max": round(1000 * max(a["first"] for a in alone), 1),
        "tokens_per_second": {
            name: [round(rates[place]) for rates in rounds]
            for place, name in enumerate(("one_client", "eight_clients"))
        },
        "eight_clients_to_one_median": round(statistics.median(b / a for a, b in rounds), 2),
        "fifty_at_once": dict(Counter(str(answer["status"]) for answer in crowd)),
        "seconds_until_a_client_that_left_is_replaced": max(left),
        **memory,
    }


def body_of(number: int, num_tokens: int = NUM_TOKENS) -> dict[str, Any]:
    """Return a request, drawn as by default."""
    question = f"{QUESTIONS[number % len(QUESTIONS)]}（{number}）"
    return {
        "messages": [{"role": "user", "content": question}], "stream": True,
        "seed": number, "max_tokens": num_tokens, "stream_options": {"include_usage": True},
    }  # fmt: skip


async def ask(web: httpx.AsyncClient, number: int, num_tokens: int = NUM_TOKENS) -> dict[str, Any]:
    """Return status, seconds until the first text, and tokens of one streamed answer."""
    started, first, tokens = time.perf_counter(), None, 0
    body = body_of(number, num_tokens)
    async with web.stream("POST", "/v1/chat/completions", json=body) as reply:
        async for line in reply.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if first is None and any(c["delta"].get("content") for c in chunk["choices"]):
                first = time.perf_counter() - started
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    return {"status": reply.status_code, "first": first or 0.0, "tokens": tokens}


async def throughput(web: httpx.AsyncClient, num_clients: int, num_answers: int) -> float:
    """Return the tokens of a second that all clients get together."""
    numbers = iter(range(1000, 1000 + num_answers))

    async def client() -> int:
        return sum([(await ask(web, number))["tokens"] for number in numbers])

    started = time.perf_counter()
    tokens = await asyncio.gather(*(client() for _ in range(num_clients)))
    return sum(tokens) / (time.perf_counter() - started)


async def leave(web: httpx.AsyncClient) -> float:
    """Return the seconds from eight clients leaving long answers until another is answered."""

    async def begin(number: int) -> None:
        request = web.stream("POST", "/v1/chat/completions", json=body_of(number, 900))
        async with request as reply:
            async for line in reply.aiter_lines():
                if '"content"' in line:
                    return

    await asyncio.gather(*(begin(number) for number in range(8)))
    started = time.perf_counter()
    await ask(web, 8, 1)
    return round(time.perf_counter() - started, 3)


async def many(web: httpx.AsyncClient, server: psutil.Process, number: int) -> dict[str, Any]:
    """Return the memory of the server after each fifth of many requests, eight at a time."""
    numbers = iter(range(number))
    resident = [server.memory_info().rss / 2**20]

    async def client() -> None:
        for n in numbers:
            await ask(web, n, 16)
            if n % max(number // 5, 1) == 0:
                resident.append(server.memory_info().rss / 2**20)

    await asyncio.gather(*(client() for _ in range(8)))
    resident.append(server.memory_info().rss / 2**20)
    return {"requests": number, "resident_mib": [round(value) for value in resident]}


if __name__ == "__main__":
    main()
