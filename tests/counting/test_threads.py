"""Threads: what a meter's block sets going is counted, what else runs meanwhile is reported."""

from __future__ import annotations

import _thread
import asyncio
import ctypes
import gc
import inspect
import sys
import threading
import weakref
from _thread import start_new_thread
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import SimpleQueue
from urllib.request import urlopen

import pytest
import torch
from torch import distributed, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pytest_flops.counting.costs import register_cost
from pytest_flops.counting.meter.meter import FLOPsMeter
from pytest_flops.counting.meter.raw_threads import RawThreads

tells_cpu_times = pytest.mark.skipif(
    sys.platform != "linux", reason="no other system tells the CPU time of each thread"
)

start_method = threading.Thread.start
OUTSIDE = "(outside modules)"
A, B = torch.ones(3, 4), torch.ones(4, 5)
PRODUCT = 2 * 3 * 4 * 5


def linear(rows: int, i: int, o: int) -> int:
    """A Linear layer's forward: the product and its bias."""
    return 2 * rows * i * o + rows * o


def weight_gradient(rows: int, i: int, o: int) -> int:
    """Its backward when the input needs no gradient: one product, and the bias's sum."""
    return 2 * rows * i * o + rows * o


class Worker:
    """A thread that runs what it is given, one after the other."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue = SimpleQueue()
        self._done: SimpleQueue = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name)
        self._thread.start()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            self._done.put(work())

    def begin(self, work) -> None:
        self._work.put(work)

    def result(self):
        return self._done.get()

    def run(self, work):
        self.begin(work)
        return self.result()

    def end(self) -> None:
        self._work.put(None)
        self._thread.join()


@pytest.fixture
def old():
    worker = Worker("old")
    yield worker
    worker.end()


class Server:
    """What a thread runs that was there before a meter, and is still there after it."""

    def __init__(self, compute=lambda: torch.mm(A, B)) -> None:
        self._compute = compute
        self._here, self._begins, self._done, self._ends = (threading.Event() for _ in range(4))

    def serve(self, *_) -> None:
        self._here.set()
        self._begins.wait()
        self._compute()
        self._done.set()
        self._ends.wait()

    def await_start(self) -> None:
        self._here.wait()

    def work(self) -> None:
        self._begins.set()
        self._done.wait()

    def end(self) -> None:
        self._begins.set()
        self._ends.set()


def unseen(thread: str = "old") -> dict[str, int]:
    return {f"(thread {thread}, older than the meter, where only modules are counted)": 1}


def start_in_c(run) -> None:
    """Start a thread of the system itself, and wait for it to end."""
    libc, thread = ctypes.CDLL(None), ctypes.c_ulong()
    call = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(run)
    assert libc.pthread_create(ctypes.byref(thread), None, call, None) == 0
    assert libc.pthread_join(thread, None) == 0


def start_raw(run) -> None:
    _thread.start_new_thread(run, ())


def start_in_c_beside(run) -> None:
    threading.Thread(target=start_in_c, args=[run], name="starter").start()


def test_threads_started_inside_the_meter_are_counted_whole():
    model = nn.Sequential(nn.Linear(4, 2))

    def step():
        loss = model(torch.ones(3, 4)).sum()
        loss.backward()

    with FLOPsMeter() as meter:
        threads = [threading.Thread(target=step) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not meter.uncounted
    assert meter.count.forward == 4 * (linear(3, 4, 2) + 6)
    # gradients accumulate once per thread but the first
    assert meter.count.backward == 4 * weight_gradient(3, 4, 2) + 3 * 10
    assert meter.components[OUTSIDE].forward == 4 * 6


def test_a_thread_belongs_to_the_module_that_starts_it():
    class Threaded(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            results = []
            thread = threading.Thread(target=lambda: results.append(self.layer(x) * 2))
            thread.start()
            thread.join()
            return results[0]

    with FLOPsMeter() as meter:
        nn.Sequential(Threaded())(torch.ones(3, 4))
    assert meter.components["0.layer"].forward == linear(3, 4, 2)
    assert meter.components["0"].forward == linear(3, 4, 2) + 6


def test_a_backward_through_what_parallel_threads_recorded_belongs_to_each_ones_modules():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Linear(4, 2, bias=False), nn.Linear(4, 16, bias=False)

        def forward(self, x):
            results = {}
            threads = [
                threading.Thread(target=lambda layer=layer: results.update({layer: layer(x)}))
                for layer in (self.narrow, self.wide)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return results[self.narrow].sum() + results[self.wide].sum()

    with FLOPsMeter() as meter:
        Parallel()(torch.ones(3, 4)).backward()
    assert meter.components["narrow"].backward == 2 * 3 * 4 * 2
    assert meter.components["wide"].backward == 2 * 3 * 4 * 16


def test_a_backward_that_calls_the_engine_itself_belongs_to_the_modules():
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    with ThreadPoolExecutor(1) as pool, FLOPsMeter() as meter:
        pool.submit(torch.mm, A, B).result()  # another counted thread, which records nothing
        loss = model(A).sum()
        torch.autograd.Variable._execution_engine.run_backward(
            (loss,),
            (torch.ones(()),),
            False,
            False,
            (),
            allow_unreachable=True,
            accumulate_grad=True,
        )
    assert meter.components["0"].backward == 2 * 3 * 4 * 2


def test_pools_of_ones_own_work_as_without_a_meter():
    @dataclass
    class Named(ThreadPoolExecutor):  # which cannot be hashed
        name: str

        def __post_init__(self):
            super().__init__(1)

    with FLOPsMeter() as meter, Named("mine") as pool:
        pool.submit(torch.mm, A, B).result()
        with pytest.raises(TypeError, match="initializer must be a callable"):
            ThreadPoolExecutor(1, initializer=5)
    assert meter.count.forward == PRODUCT
    assert not meter.unseen


def test_work_given_to_an_older_pool_is_counted_whole():
    class Pooled(nn.Module):
        def __init__(self, pool):
            super().__init__()
            self.layer, self.pool = nn.Linear(4, 2), pool

        def forward(self, x):
            return self.pool.submit(lambda: self.layer(x) * 2).result()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        model = nn.Sequential(Pooled(pool))
        with FLOPsMeter() as meter:
            model(torch.ones(3, 4))
            list(pool.map(torch.mm, [torch.ones(3, 4)] * 2, [torch.ones(4, 5)] * 2))
        pool.submit(torch.mm, torch.ones(3, 4), torch.ones(4, 5)).result()
    assert not meter.uncounted
    assert meter.components["0.layer"].forward == linear(3, 4, 2)
    assert meter.components["0"].forward == linear(3, 4, 2) + 6
    assert meter.components[OUTSIDE].forward == 2 * (2 * 3 * 4 * 5)


def test_callbacks_of_what_is_given_to_a_pool_are_counted():
    called = SimpleQueue()

    def compute(_result) -> None:
        called.put(torch.mm(A, B))

    with ThreadPoolExecutor(1) as pool, FLOPsMeter() as meter:
        future = pool.submit(threading.Event().wait, 0.01)
        future.add_done_callback(compute)
        called.get()
        future.add_done_callback(compute)  # it is done: at once
        called.get()
    assert meter.count.forward == 2 * PRODUCT
    with ThreadPool(1) as pool, FLOPsMeter() as meter:
        pool.apply_async(int, callback=compute).get()
        pool.apply_async(int, ("none",), {}, None, compute).wait()
        pool.map_async(int, [1, 2], callback=compute).get()
        for _ in range(3):
            called.get()
    assert meter.count.forward == 3 * PRODUCT


@pytest.mark.parametrize("method", ["then", "add_done_callback"])
def test_callbacks_of_pytorchs_futures_are_counted(old, method):
    called = SimpleQueue()
    future: torch.futures.Future = torch.futures.Future()
    with FLOPsMeter() as meter:
        getattr(future, method)(lambda _: called.put(torch.mm(A, B)))
        old.run(lambda: future.set_result(None))
        called.get()
        with pytest.raises(TypeError):
            getattr(future, method)("no function")
    assert meter.count.forward == PRODUCT


@pytest.mark.skipif(not distributed.is_available(), reason="PyTorch without torch.distributed")
def test_what_is_computed_once_a_communication_is_done_is_counted():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        with FLOPsMeter() as meter:
            work = [distributed.all_reduce(torch.ones(1000), async_op=True) for _ in range(5)]
            halves = [each.get_future().then(lambda done: done.value()[0] / 2) for each in work]
            assert all(half.wait()[0] == 1 / 2 for half in halves)
    finally:
        distributed.destroy_process_group()
    assert meter.count.forward == 5 * 1000
    assert not meter.uncounted


class Products:
    """A sequence that computes its items when it is gone through."""

    def __len__(self) -> int:
        return 3

    def __iter__(self):
        return (torch.mm(A, B) for _ in range(3))


@pytest.mark.parametrize("make_items", [Products, lambda: iter(Products())])
@pytest.mark.parametrize("go_through", ["map", "imap", "imap_unordered"])
def test_what_the_items_compute_that_a_pool_goes_through_is_counted(make_items, go_through):
    with ThreadPool(1) as pool, FLOPsMeter() as meter:
        sizes = getattr(pool, go_through)(torch.numel, make_items())
        assert list(sizes) == [3 * 5] * 3
    assert meter.count.forward == 3 * PRODUCT


class Endless(Products):
    """Asks nobody for its length, as a data loader of a stream does not."""

    def __len__(self) -> int:
        raise TypeError("a stream has no length")


def test_items_are_gone_through_as_lazily_as_without_a_meter():
    with ThreadPool(1) as pool, FLOPsMeter() as meter:
        assert list(pool.imap(torch.numel, Endless())) == [15] * 3
    assert meter.count.forward == 3 * PRODUCT


def test_what_the_items_compute_that_other_processes_get_is_counted():
    with get_context("spawn").Pool(1) as pool, FLOPsMeter() as meter:
        called = SimpleQueue()
        items = (torch.mm(A, B).shape[0] for _ in range(3))
        assert list(pool.imap(abs, items)) == [3] * 3
        pool.apply_async(abs, (-3,), callback=lambda _: called.put(torch.mm(A, B))).get()
        called.get()
    assert meter.count.forward == 4 * PRODUCT


def test_a_thread_started_by_the_raw_function_is_counted():
    done = SimpleQueue()
    with FLOPsMeter() as meter:
        _thread.start_new_thread(lambda a, b: done.put(torch.mm(a, b)), (A,), {"b": B})
        done.get()
    assert meter.count.forward == PRODUCT


def test_a_pools_worker_that_outlives_the_meter_is_left_as_it_was():
    with ThreadPoolExecutor(1) as pool:
        with FLOPsMeter() as meter:
            pool.submit(torch.mm, torch.ones(3, 4), torch.ones(4, 5)).result()
        assert pool.submit(_get_current_dispatch_mode_stack).result() == []
    assert meter.count.forward == 2 * 3 * 4 * 5


@pytest.mark.parametrize(
    "give",
    [
        lambda pool: pool.apply(torch.mm, (A, B)),
        lambda pool: pool.apply_async(torch.mm, (A, B)).get(),
        lambda pool: pool.starmap(torch.mm, [(A, B)]),
        lambda pool: pool.map(B.T.matmul, [A.T]),
        lambda pool: pool.map_async(B.T.matmul, [A.T], chunksize=1).get(),
        lambda pool: list(pool.imap(B.T.matmul, [A.T], chunksize=2)),
        lambda pool: list(pool.imap_unordered(B.T.matmul, [A.T])),
        lambda pool: pool.apply_async(func=torch.mm, args=(A, B)).get(),
        lambda pool: list(pool.imap(func=B.T.matmul, iterable=[A.T])),
    ],
)
def test_work_given_to_an_older_thread_pool_of_multiprocessing_is_counted_whole(give):
    before = dict(vars(ThreadPool))
    with ThreadPool(1) as pool:
        pool.apply(int)
        with FLOPsMeter() as meter:
            give(pool)
        pool.apply(torch.mm, (A, B))
        assert pool.apply(_get_current_dispatch_mode_stack) == []
    assert meter.count.forward == PRODUCT
    assert not meter.uncounted
    assert dict(vars(ThreadPool)) == before


def test_a_pool_that_the_meter_sees_made_is_left_as_it_was():
    with FLOPsMeter() as meter:
        pool = ThreadPool(1)
        pool.apply(torch.mm, (A, B))
    with pool:
        assert pool.apply(_get_current_dispatch_mode_stack) == []
    assert meter.count.forward == PRODUCT
    assert not meter.uncounted


def test_an_older_thread_is_counted_in_its_modules_and_reported_for_the_rest(old):
    model = nn.Sequential(nn.Linear(4, 2))
    with FLOPsMeter() as meter:
        old.run(lambda: [model(A).sum(), model(A)])
    assert meter.components["0"].forward == meter.count.forward == 2 * linear(3, 4, 2)
    assert meter.uncounted == unseen()


def test_an_older_thread_that_computes_outside_modules_is_reported(old):
    with FLOPsMeter() as meter:
        old.run(lambda: torch.mm(A, B))
    assert meter.count.total == 0
    assert meter.uncounted == unseen()


def test_an_optimizer_of_an_older_thread_is_reported(old):
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(A).backward(torch.ones(3, 2))
    with FLOPsMeter() as meter:
        old.run(optimizer.step)
    assert meter.uncounted == unseen()


@tells_cpu_times
def test_an_older_thread_that_waits_is_no_remark():
    for _ in range(20):  # right after its start, when it does not wait yet
        old = Worker("old")
        with FLOPsMeter() as meter:
            torch.mm(A, B)
        old.end()
        assert meter.count.forward == PRODUCT
        assert not meter.uncounted


def multiply(begins: threading.Event) -> None:
    begins.wait()
    torch.mm(A, B)


class Multiplier(threading.Thread):
    def __init__(self, begins: threading.Event) -> None:
        super().__init__()
        self._begins = begins

    def run(self) -> None:
        multiply(self._begins)


class Multiply:
    def __call__(self, begins: threading.Event) -> None:
        multiply(begins)


@pytest.mark.parametrize(
    "thread",
    [
        lambda begins: threading.Thread(target=multiply, args=[begins]),
        lambda begins: threading.Thread(target=partial(multiply, begins)),
        lambda begins: threading.Thread(target=Multiply(), args=[begins]),
        lambda begins: threading.Timer(0, multiply, [begins]),
        Multiplier,
    ],
    ids=["function", "partial", "object", "timer", "subclass"],
)
def test_a_thread_is_reported_whatever_it_was_started_with(thread):
    begins = threading.Event()
    thread = thread(begins)
    thread.name = "old"
    thread.start()
    with FLOPsMeter() as meter:
        begins.set()
        thread.join()
    assert meter.uncounted == unseen()


@pytest.mark.parametrize("start", [start_raw, lambda run: threading.Thread(target=run).start()])
@pytest.mark.parametrize(
    "decorate", [torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")]
)
def test_a_thread_is_reported_whatever_pytorch_has_put_around_its_function(start, decorate):
    server = Server()
    start(decorate(server.serve))
    server.await_start()
    with FLOPsMeter() as meter:
        server.work()
    server.end()
    assert len(meter.uncounted) == 1


@pytest.mark.parametrize("names", [{"torch": torch}, {"nn": nn}, {"Linear": nn.Linear}, {}])
def test_a_thread_of_an_installed_package_is_reported_if_the_package_uses_pytorch(names):
    source = "def serve(multiply, begins): multiply(begins)"
    library = {"__name__": "library"} | names
    exec(compile(source, "lib/site-packages/library.py", "exec"), library)
    begins = threading.Event()
    thread = threading.Thread(target=library["serve"], args=[multiply, begins], name="old")
    thread.start()
    with FLOPsMeter() as meter:
        begins.set()
        thread.join()
    assert meter.uncounted == (unseen() if names else {})
    assert meter.unseen == (() if names else ("old",))


class Product(BaseHTTPRequestHandler):
    """Answers with the sum of a product; no module, no optimizer."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(torch.mm(A, B).sum().item()).encode())

    def log_message(self, *_args) -> None:
        pass


def test_what_a_librarys_server_ran_meanwhile_is_unseen():
    with HTTPServer(("127.0.0.1", 0), Product) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.001], name="server")
        thread.start()
        with FLOPsMeter() as meter:
            torch.mm(A, B)
            url = f"http://127.0.0.1:{server.server_port}"
            assert urlopen(url).read() == b"60.0"
        server.shutdown()
        thread.join()
    assert meter.count.forward == PRODUCT
    assert meter.unseen == ("server",)
    assert not meter.uncounted
    assert str(meter).endswith("ran meanwhile, unseen: server")


@tells_cpu_times
@pytest.mark.parametrize("counted", [0, 1, 20])
def test_an_older_pool_that_runs_is_unseen_whatever_else_it_is_given(counted):
    begins = threading.Event()

    def older_work() -> None:
        begins.wait()
        torch.mm(A, B)

    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        older = pool.submit(older_work)
        with FLOPsMeter() as idle:
            pass
        with FLOPsMeter() as meter:
            begins.set()
            older.result()
            for _ in range(counted):
                pool.submit(torch.mm, A, B).result()
    assert meter.count.forward == counted * PRODUCT
    assert meter.unseen == ("pool_0",)
    assert not idle.unseen


def test_work_of_the_projects_thread_is_reported_also_when_it_calls_back(old):
    with FLOPsMeter() as meter:
        for _ in range(20):
            future = Future()
            future.add_done_callback(lambda _: None)
            old.run(lambda future=future: future.set_result(torch.mm(A, B)))
    assert meter.count.total == 0
    assert meter.uncounted == unseen()


def test_what_initialises_a_pools_workers_is_counted():
    with FLOPsMeter() as meter:
        with ThreadPoolExecutor(1, initializer=torch.mm, initargs=(A, B)) as pool:
            pool.submit(int).result()
        with ThreadPool(1, initializer=torch.mm, initargs=(A, B)) as pool:
            pool.apply(int)
    assert meter.count.forward == 2 * PRODUCT
    assert not meter.unseen


def test_a_worker_that_an_older_pool_starts_is_unseen():
    older = ThreadPoolExecutor(1, "pool", initializer=torch.mm, initargs=(A, B))
    with older as pool, FLOPsMeter() as meter:
        pool.submit(int).result()
    assert meter.unseen == ("pool_0",)


@pytest.mark.parametrize("start", [start_raw, start_in_c_beside])
@pytest.mark.parametrize("at_work", [pytest.param(False, marks=tells_cpu_times), True])
def test_a_thread_that_python_has_not_named_is_reported_if_it_ran(start, at_work):
    server = Server()
    start(server.serve)
    server.await_start()
    with FLOPsMeter() as meter:
        if at_work:
            server.work()
    server.end()
    assert meter.uncounted == (unseen("running serve") if at_work else {})
    assert not meter.unseen


def test_a_thread_that_is_in_no_call_of_python_is_unseen():
    waits = _thread.allocate_lock()
    waits.acquire()
    start_raw(partial(waits.acquire))  # a function in C
    with FLOPsMeter() as meter:
        torch.mm(A, B)
    waits.release()
    assert meter.unseen == ("1 of the module _thread, or in C",)
    assert not meter.uncounted


def test_a_raw_thread_is_reported_though_some_of_its_work_is_counted():
    future: torch.futures.Future = torch.futures.Future()
    server = Server(lambda: (torch.mm(A, B), future.set_result(None)))
    start_raw(server.serve)
    server.await_start()
    with FLOPsMeter() as meter:
        future.then(lambda _: torch.mm(A, B))
        server.work()
    server.end()
    assert meter.count.forward == PRODUCT
    assert meter.uncounted == unseen("running serve")


def test_a_raw_thread_of_a_library_is_unseen():
    source = "def serve(multiply, begins): multiply(begins)"
    library = {"__name__": "library"}
    exec(compile(source, "lib/site-packages/library.py", "exec"), library)
    begins, done = threading.Event(), SimpleQueue()
    _thread.start_new_thread(library["serve"], (lambda _: done.put(multiply(begins)), begins))
    with FLOPsMeter() as meter:
        begins.set()
        done.get()
    assert meter.unseen == ("running serve",)
    assert not meter.uncounted


def start_bound_before(done: SimpleQueue) -> None:
    start_new_thread(lambda: done.put(torch.mm(A, B)), ())


def start_by_the_method_bound_before(done: SimpleQueue) -> None:
    start_method(threading.Thread(target=lambda: done.put(torch.mm(A, B))))


def start_in_c_to_compute(done: SimpleQueue) -> None:
    start_in_c(lambda _: done.put(torch.mm(A, B)))


@pytest.mark.parametrize(
    "start", [start_bound_before, start_by_the_method_bound_before, start_in_c_to_compute]
)
def test_a_thread_that_is_started_unseen_is_unseen_though_it_has_ended(start):
    done: SimpleQueue = SimpleQueue()
    with FLOPsMeter() as outer:
        torch.mm(A, B)
        with FLOPsMeter() as idle:
            torch.mm(A, B)
        with FLOPsMeter() as meter:
            for _ in range(2):
                start(done)
                done.get()
    assert outer.count.forward == 2 * PRODUCT
    assert outer.unseen == meter.unseen == ("2 of the module _thread, or in C",)
    assert not idle.unseen
    assert not meter.count.total


def test_a_thread_that_is_started_unseen_is_unseen_though_some_of_its_work_is_counted():
    done: SimpleQueue = SimpleQueue()
    future: torch.futures.Future = torch.futures.Future()
    with FLOPsMeter() as meter:
        future.then(lambda _: torch.mm(A, B))
        start_new_thread(lambda: (torch.mm(A, B), future.set_result(None), done.put(None)), ())
        done.get()
    assert meter.count.forward == PRODUCT
    assert meter.unseen == ("1 of the module _thread, or in C",)


def test_a_thread_that_is_started_unseen_is_unseen_though_pytorch_has_decorated_its_function():
    done: SimpleQueue = SimpleQueue()
    future: torch.futures.Future = torch.futures.Future()

    @torch.no_grad()
    def compute() -> None:
        torch.mm(A, B)
        future.set_result(None)
        done.put(None)

    with FLOPsMeter() as meter:
        future.add_done_callback(lambda _: torch.mm(A, B))
        start_new_thread(compute, ())
        done.get()
    assert meter.count.forward == PRODUCT
    assert meter.unseen == ("1 of the module _thread, or in C",)


def test_a_raw_thread_that_is_seen_to_start_and_runs_later_is_no_remark():
    begins, done = threading.Event(), SimpleQueue()
    with FLOPsMeter() as meter:
        _thread.start_new_thread(lambda: (begins.wait(), done.put(torch.mm(A, B))), ())
    begins.set()
    done.get()
    assert not meter.count.total
    assert not meter.unseen


@pytest.mark.parametrize("part", ["begin", "beside"])
def test_a_meter_that_is_interrupted_leaves_threads_and_pools_as_they_were(monkeypatch, part):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = threading.Thread.start, {**vars(ThreadPool)}, {**vars(ThreadPoolExecutor)}
    monkeypatch.setattr(RawThreads, part, interrupt)
    with pytest.raises(KeyboardInterrupt), FLOPsMeter():
        pass
    assert (threading.Thread.start, {**vars(ThreadPool)}, {**vars(ThreadPoolExecutor)}) == before
    assert torch.autograd.is_multithreading_enabled()
    assert not _get_current_dispatch_mode_stack()


def test_a_raw_thread_with_a_meter_of_its_own_is_no_remark_in_it():
    done: SimpleQueue = SimpleQueue()

    def count() -> None:
        with FLOPsMeter() as meter:
            torch.mm(A, B)
        done.put(meter)

    start_new_thread(count, ())
    assert not done.get().unseen


@pytest.mark.parametrize("beside", [pytest.param(False, marks=tells_cpu_times), True])
@pytest.mark.parametrize("start", [start_raw, lambda run: threading.Thread(target=run).start()])
def test_a_thread_with_a_meter_of_its_own_is_left_to_that_meter_while_it_counts(start, beside):
    here, begins, ends, counted = (*(threading.Event() for _ in range(3)), SimpleQueue())

    def count() -> None:
        with FLOPsMeter() as meter:
            here.set()
            begins.wait()
            torch.mm(A, B)
            if not beside:
                counted.put(meter)
                ends.wait()
        if beside:
            torch.mm(A, B)
            counted.put(meter)
            ends.wait()

    start(count)
    here.wait()
    with FLOPsMeter() as meter:
        begins.set()
        other = counted.get()
    ends.set()
    assert other.count.forward == PRODUCT
    assert not meter.uncounted
    assert len(meter.unseen) == beside


@tells_cpu_times
def test_a_thread_is_left_to_its_outer_meter_when_its_inner_one_has_ended(old):
    here, begins, done, ends = (
        threading.Event(),
        threading.Event(),
        SimpleQueue(),
        threading.Event(),
    )

    def count() -> FLOPsMeter:
        with FLOPsMeter() as outer:
            with FLOPsMeter():
                here.set()
                begins.wait()
            torch.mm(A, B)
            done.put(None)
            ends.wait()
        return outer

    old.begin(count)
    here.wait()
    with FLOPsMeter() as meter:
        begins.set()
        done.get()
    ends.set()
    assert old.result().count.forward == PRODUCT
    assert not meter.uncounted
    assert not meter.unseen


def test_what_another_meter_counts_in_a_thread_that_it_has_started_is_left_to_it(old):
    here, begins, done, ends = (
        *(threading.Event() for _ in range(2)),
        SimpleQueue(),
        SimpleQueue(),
    )

    def compute() -> None:
        here.set()
        begins.wait()
        torch.mm(A, B)
        done.put(None)

    def count() -> None:
        with FLOPsMeter() as meter:
            threading.Thread(target=compute).start()
            ends.get()
        done.put(meter)

    old.begin(count)
    here.wait()
    with FLOPsMeter() as meter:
        begins.set()
        done.get()
    ends.put(None)
    assert done.get().count.forward == PRODUCT
    assert not meter.uncounted


def test_a_start_that_fails_hides_no_other_thread():
    done: SimpleQueue = SimpleQueue()
    thread = threading.Thread(target=int)
    thread.start()
    with FLOPsMeter() as meter:
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        start_bound_before(done)
        done.get()
    assert meter.unseen == ("1 of the module _thread, or in C",)


def mm(a: torch.Tensor, b: torch.Tensor):
    return torch.mm(a, b)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_torchscript_forks_is_counted():
    parallel = torch.jit.script(fork_twice)
    with FLOPsMeter() as meter:
        parallel(A, B)
    assert meter.count.forward == 2 * PRODUCT + 3 * 5


def fork_twice(a: torch.Tensor, b: torch.Tensor):
    first, second = torch.jit.fork(mm, a, b), torch.jit.fork(mm, a, b)
    return torch.jit.wait(first) + torch.jit.wait(second)


def test_threads_that_are_counted_are_no_remark():
    done: SimpleQueue = SimpleQueue()
    work = partial(lambda: done.put(torch.mm(A, B)))
    with FLOPsMeter() as outer, FLOPsMeter() as meter:
        threading.Thread(target=work).start()
        threading.Timer(0, work).start()
        _thread.start_new_thread(work, ())
        _thread.start_new_thread(work, ())
        with ThreadPoolExecutor(2) as pool, ThreadPool(2) as other_pool:
            pool.submit(work)
            other_pool.apply(work)
        for _ in range(6):
            done.get()
    assert outer.count.forward == meter.count.forward == 6 * PRODUCT
    assert not outer.unseen
    assert not meter.unseen


@tells_cpu_times
def test_a_thread_that_has_ended_is_no_remark_though_python_lists_it():
    threads = SimpleQueue()
    # which lists it from now on
    _thread.start_new_thread(lambda: threads.put(threading.current_thread()), ())
    task = Path(f"/proc/self/task/{threads.get().native_id}")
    while task.exists():
        pass
    with FLOPsMeter() as meter:
        torch.mm(A, B)
    assert not meter.unseen


def test_the_main_thread_is_reported_by_a_meter_in_another_one():
    counts, computed = threading.Event(), threading.Event()

    def count():
        with FLOPsMeter() as meter:
            counts.set()
            computed.wait()
        return meter

    with ThreadPoolExecutor(1) as pool:
        meter = pool.submit(count)
        counts.wait()
        torch.mm(A, B)
        computed.set()
    assert meter.result().uncounted == unseen("MainThread")


@tells_cpu_times
@pytest.mark.parametrize("at_work", [False, True])
def test_an_older_event_loop_is_reported_if_it_ran(at_work):
    loop, done = asyncio.new_event_loop(), SimpleQueue()
    thread = threading.Thread(target=loop.run_forever, name="loop")
    thread.start()
    with FLOPsMeter() as meter:
        if at_work:
            loop.call_soon_threadsafe(lambda: done.put(torch.mm(A, B)))
            done.get()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert meter.uncounted == (unseen("loop") if at_work else {})


def test_a_module_called_in_any_older_thread_is_counted_with_a_remark():
    model, work, done = nn.Linear(4, 2), SimpleQueue(), SimpleQueue()
    # started with a function of the standard library: an executor, busy with older work
    with ThreadPoolExecutor(1, thread_name_prefix="older") as pool:
        pool.submit(lambda: done.put(work.get()()))
        with FLOPsMeter() as meter:
            work.put(lambda: model(A))
            done.get()
    assert meter.count.forward == linear(3, 4, 2)
    assert meter.uncounted == unseen("older_0")


def test_a_thread_inside_a_module_when_the_meter_ends_is_left_as_it_was(old):
    inside, ended = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def forward(self, x):
            inside.set()
            ended.wait()
            return x

    model = nn.Sequential(Slow(), nn.Linear(4, 2))
    with FLOPsMeter() as meter:
        old.begin(lambda: model(A))
        inside.wait()
    ended.set()
    old.result()
    assert old.run(_get_current_dispatch_mode_stack) == []
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_hooks_always_called
    assert meter.count.total == 0


def test_meters_of_two_threads_count_each_its_own(old):
    model = nn.Linear(4, 2)
    both, done = threading.Barrier(2), threading.Barrier(2)

    def count(work):
        with FLOPsMeter() as meter:
            both.wait()
            work()
            done.wait()
        return meter

    old.begin(lambda: count(lambda: [model(A), torch.mm(A, B)]))
    here = count(lambda: torch.mm(A, B))
    there = old.result()
    assert here.count.forward == PRODUCT
    assert there.count.forward == linear(3, 4, 2) + PRODUCT
    assert not here.uncounted
    assert not there.uncounted


@tells_cpu_times
def test_meters_inside_each_other_each_report_what_ran_meanwhile(old):
    model = nn.Linear(4, 2)
    with FLOPsMeter() as outer:
        with FLOPsMeter() as idle:
            torch.mm(A, B)
        with FLOPsMeter() as inner:
            old.run(lambda: model(A))
    assert inner.count.forward == linear(3, 4, 2)
    assert outer.count.forward == PRODUCT + linear(3, 4, 2)
    assert not idle.uncounted
    assert outer.uncounted == inner.uncounted == unseen()


def test_a_thread_is_counted_by_the_meter_of_the_thread_that_starts_it():
    counts = {}

    def measure(size: int, barrier: threading.Barrier):
        with FLOPsMeter() as meter:
            barrier.wait()
            thread = threading.Thread(target=lambda: torch.ones(size) + 1)
            thread.start()
            thread.join()
            barrier.wait()
        counts[size] = meter.count.forward

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=measure, args=(size, barrier)) for size in (3, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {3: 3, 50: 50}


def test_meters_that_overlap_leave_threads_and_pools_as_they_were():
    def state() -> tuple:
        threaded_backward = torch.autograd.is_multithreading_enabled()
        return threading.Thread.start, ThreadPoolExecutor.submit, threaded_backward

    before = state()
    first, second = FLOPsMeter(), FLOPsMeter()
    first.__enter__()
    second.__enter__()
    inside = state()
    first.__exit__(None, None, None)
    assert state() == inside
    assert not set(inside) & set(before)
    second.__exit__(None, None, None)
    assert state() == before


def test_a_backward_that_the_user_keeps_in_its_thread_stays_there():
    with torch.autograd.set_multithreading_enabled(False):
        with FLOPsMeter():
            pass
        assert not torch.autograd.is_multithreading_enabled()


def test_meters_of_tasks_that_take_turns_in_a_thread_count_each_its_time():
    async def count(size: int, ends: asyncio.Event, other_ends: asyncio.Event | None) -> FLOPsMeter:
        with FLOPsMeter() as meter:
            torch.ones(size) + 1
            await asyncio.sleep(0)
            torch.ones(size) + 1
            if other_ends is not None:
                await other_ends.wait()
                torch.ones(size) + 1
        ends.set()
        return meter

    async def both() -> list[FLOPsMeter]:
        first, second = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(count(3, first, None), count(50, second, first))

    shorter, longer = asyncio.run(both())
    assert shorter.count.forward == 2 * 3 + 50
    assert longer.count.forward == 3 * 50 + 3
    assert not _get_current_dispatch_mode_stack()


def test_a_callback_inside_an_older_threads_module_is_counted_once(old):
    future: Future = Future()

    class Answers(nn.Module):
        def forward(self, x):
            future.set_result(x)
            return x

    with FLOPsMeter() as meter:
        future.add_done_callback(lambda done: torch.mm(done.result(), B))
        old.run(lambda: Answers()(A))
    assert meter.count.forward == PRODUCT


def test_threads_inside_an_operator_with_a_cost_are_a_part_of_it():
    with torch.library._scoped_library("threaded", "FRAGMENT"):

        @torch.library.custom_op("threaded::product", mutates_args=())
        def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(torch.mm, a, b).result()

        register_cost("threaded::product")(lambda *_: PRODUCT)
        with FLOPsMeter() as meter:
            product(A, B)
        assert meter.count.forward == PRODUCT
        assert not meter.unseen


def test_a_thread_that_was_counted_is_let_go_as_without_a_meter():
    gc.disable()
    try:
        with FLOPsMeter():
            thread = threading.Thread(target=torch.mm, args=(A, B))
            thread.start()
            thread.join()
        kept = weakref.ref(thread)
        del thread
        assert kept() is None
    finally:
        gc.enable()


def test_what_is_replaced_tells_its_name_and_parameters_as_without_a_meter():
    replaced = (threading.Thread.start, ThreadPoolExecutor.__init__, ThreadPoolExecutor.submit)
    before = [(method.__qualname__, inspect.signature(method)) for method in replaced]
    with FLOPsMeter():
        replaced = (threading.Thread.start, ThreadPoolExecutor.__init__, ThreadPoolExecutor.submit)
        assert [(method.__qualname__, inspect.signature(method)) for method in replaced] == before


def test_a_visited_thread_that_python_does_not_list_is_not_listed_afterwards():
    begins, done, ends = threading.Event(), SimpleQueue(), threading.Event()
    model = nn.Linear(4, 2)
    start_raw(lambda: (begins.wait(), done.put(model(A)), ends.wait()))
    with FLOPsMeter() as meter:
        before = threading.enumerate()
        begins.set()
        done.get()
    assert threading.enumerate() == before
    ends.set()
    assert meter.uncounted == unseen("running <lambda>")
    assert meter.count.forward == linear(3, 4, 2)
