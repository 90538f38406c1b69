"""Threads: what counted code starts or submits is counted, a call in another thread is reported."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import shutil
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from queue import SimpleQueue

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

from pytest_flops.counting.costs import register_cost
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.meter import threads
from pytest_flops.counting.meter.meter import FLOPsMeter

OUTSIDE = "(outside modules)"
A, B = torch.ones(3, 4), torch.ones(4, 5)
PRODUCT = 2 * 3 * 4 * 5
LINEAR = 2 * 3 * 4 * 2 + 3 * 2  # of A, forward; and backward without the input's gradient


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


def in_a_thread(work) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_an_executor(work) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(work).result()


@pytest.fixture(params=[in_a_thread, in_an_executor])
def run_elsewhere(request):
    return request.param


class Elsewhere(nn.Module):
    """Runs its layer, and one multiplication, in another thread."""

    def __init__(self, run_elsewhere) -> None:
        super().__init__()
        self.layer, self._run = nn.Linear(4, 2), run_elsewhere

    def forward(self, x):
        results = []
        self._run(lambda: results.append(self.layer(x) * 2))
        return results[0]


def test_work_elsewhere_belongs_to_the_module_that_starts_it(run_elsewhere):
    with FLOPsMeter() as meter:
        nn.Sequential(Elsewhere(run_elsewhere))(A)
    assert meter.components["0.layer"].forward == LINEAR
    assert meter.components["0"].forward == meter.count.total == LINEAR + 3 * 2
    assert not meter.uncounted


def test_work_elsewhere_has_the_phase_of_the_call_that_starts_it(run_elsewhere):
    model = Elsewhere(run_elsewhere)
    x = A.clone().requires_grad_()
    with FLOPsMeter() as meter:
        loss = checkpoint(model, x, use_reentrant=True)
        loss.register_hook(lambda _: run_elsewhere(lambda: torch.mm(A, B)))
        loss.backward(torch.ones(3, 2))
    assert meter.recomputed == LINEAR + 3 * 2
    assert meter.count.forward == LINEAR + 3 * 2
    # both gradients, the bias's, the factor's; the forward again; and the hook's product
    assert meter.count.backward == 2 * (2 * 3 * 4 * 2) + 6 + 6 + meter.recomputed + PRODUCT


def test_work_elsewhere_in_a_step_is_the_optimizers(run_elsewhere):
    class Squaring(torch.optim.SGD):
        def step(self):
            run_elsewhere(self.param_groups[0]["params"][0].square)

    model = nn.Sequential(nn.Linear(4, 2))
    with FLOPsMeter() as meter:
        model(A)
        Squaring(model.parameters()).step()
    assert meter.components["0"].optimizer == meter.count.optimizer == 4 * 2


def test_threads_that_run_at_the_same_time_lose_no_count():
    model = nn.Sequential(nn.Linear(4, 2))

    def step():
        model(A).sum().backward()

    with FLOPsMeter() as meter:
        running = [threading.Thread(target=step) for _ in range(4)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert meter.count.forward == 4 * (LINEAR + 6)
    assert meter.count.backward == 4 * LINEAR + 3 * 10  # accumulated by each thread but the first
    assert meter.components[OUTSIDE].forward == 4 * 6
    assert not meter.uncounted


def test_a_backward_through_what_parallel_threads_recorded_belongs_to_each_ones_modules():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Linear(4, 2, bias=False), nn.Linear(4, 16, bias=False)

        def forward(self, x):
            both = threading.Barrier(2)  # so that one worker does not run both of them

            def run(child):
                both.wait()
                return child(x)

            with ThreadPoolExecutor(2) as executor:
                return sum(each.sum() for each in executor.map(run, self.children()))

    with FLOPsMeter() as meter:
        Parallel()(A).backward()
    assert meter.components["narrow"].backward == 2 * 3 * 4 * 2
    assert meter.components["wide"].backward == 2 * 3 * 4 * 16


def test_threads_inside_threads_are_counted(run_elsewhere):
    with FLOPsMeter() as meter:
        run_elsewhere(lambda: in_a_thread(lambda: in_an_executor(lambda: torch.mm(A, B))))
    assert meter.count == FLOPsCount(PRODUCT)


def test_nested_meters_count_what_each_of_them_sees_started(run_elsewhere):
    with FLOPsMeter() as outer:
        run_elsewhere(lambda: torch.mm(A, B))
        with FLOPsMeter() as inner:
            run_elsewhere(lambda: torch.mm(A, B))
    assert (inner.count, outer.count) == (FLOPsCount(PRODUCT), FLOPsCount(2 * PRODUCT))


def test_a_thread_that_runs_at_once_is_counted_once(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda thread: thread.run())
    with FLOPsMeter() as meter:
        threading.Thread(target=torch.mm, args=(A, B)).start()
    assert meter.count == FLOPsCount(PRODUCT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exception_in_a_thread_is_the_users_own():
    def fail():
        torch.mm(A, B)
        raise KeyError("the user's own")

    with FLOPsMeter() as meter, ThreadPoolExecutor(1) as executor:
        in_a_thread(fail)
        with pytest.raises(KeyError, match="the user's own"):
            executor.submit(fail).result()
        assert executor.submit(torch.mm, A, B).result() is not None
    assert meter.count == FLOPsCount(3 * PRODUCT)


def test_a_thread_that_outlives_the_block_counts_no_more():
    ended, done = threading.Event(), threading.Event()

    def compute():
        torch.mm(A, B)
        done.set()
        ended.wait()
        nn.Linear(4, 2)(torch.mm(A, B)[:, :4])

    with FLOPsMeter() as meter:
        thread = threading.Thread(target=compute)
        thread.start()
        done.wait()
    ended.set()
    thread.join()
    assert meter.count == FLOPsCount(PRODUCT)
    assert not meter.uncounted


def test_only_what_is_submitted_to_an_executor_is_counted_not_its_worker():
    with ThreadPoolExecutor(1) as executor:
        with FLOPsMeter() as meter:
            waiting = [executor.submit(threading.Event().wait, 0.01)]
            waiting.append(executor.submit(torch.mm, A, B))
            assert executor.submit(torch.mm, A, B).result() is not None
        assert executor.submit(_get_current_dispatch_mode_stack).result() == []
    assert meter.count == FLOPsCount(2 * PRODUCT)


def test_an_executor_may_be_older_than_the_meter():
    with ThreadPoolExecutor(1) as executor:
        executor.submit(torch.mm, A, B).result()
        with FLOPsMeter() as meter:
            nn.Sequential(Elsewhere(lambda work: executor.submit(work).result()))(A)
    assert meter.components["0.layer"].forward == LINEAR
    assert not meter.uncounted


def test_work_of_an_event_loop_is_counted_in_its_executor():
    with FLOPsMeter() as meter:
        asyncio.run(asyncio.to_thread(torch.mm, A, B))
    assert meter.count == FLOPsCount(PRODUCT)


def test_a_module_in_another_thread_is_reported_by_name_and_not_counted(old):
    model = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    with FLOPsMeter() as meter:
        old.run(lambda: [model(A), model(A)])
    assert meter.uncounted == {"(module Sequential in thread old)": 2}
    assert meter.count.total == 0
    assert OUTSIDE in meter.components


def test_a_step_in_another_thread_is_reported_by_name_and_not_counted(old):
    layer = nn.Linear(4, 2)
    layer(A).sum().backward()
    with FLOPsMeter() as meter:
        old.run(torch.optim.SGD(layer.parameters()).step)
    assert meter.uncounted == {"(SGD.step in thread old)": 1}
    assert meter.count.total == 0


def test_nothing_else_in_another_thread_is_looked_at(old):
    with FLOPsMeter() as meter:
        old.run(lambda: torch.mm(A, B))
    assert meter.count.total == 0
    assert not meter.uncounted


def test_a_module_that_raises_in_another_thread_hides_no_later_one(old):
    def fail():
        with pytest.raises(RuntimeError):
            nn.Sequential(nn.Linear(7, 7))(A)

    with FLOPsMeter() as meter:
        old.run(fail)
        old.run(lambda: nn.ReLU()(A))
    assert meter.uncounted == {
        "(module ReLU in thread old)": 1,
        "(module Sequential in thread old)": 1,
    }


def test_meters_of_two_threads_count_each_its_own(old):
    model = nn.Linear(4, 2)
    both, done = threading.Barrier(2), threading.Barrier(2)

    def count(work):
        with FLOPsMeter() as meter:
            both.wait()
            work()
            done.wait()
        return meter

    old.begin(lambda: count(lambda: [model(A), in_a_thread(lambda: torch.mm(A, B))]))
    here = count(lambda: in_a_thread(lambda: torch.mm(A, B)))
    there = old.result()
    assert here.count.forward == PRODUCT
    assert there.count.forward == LINEAR + PRODUCT
    assert not here.uncounted
    assert not there.uncounted


def test_a_thread_inside_an_operator_with_a_cost_is_a_part_of_it(run_elsewhere):
    with torch.library._scoped_library("threaded", "FRAGMENT"):

        @torch.library.custom_op("threaded::product", mutates_args=())
        def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            run_elsewhere(lambda: torch.mm(a, b))
            return torch.mm(a, b)

        register_cost("threaded::product")(lambda *_: PRODUCT)
        with FLOPsMeter() as meter:
            product(A, B)
        assert meter.count == FLOPsCount(PRODUCT)
        assert not meter.uncounted


def mm(a: torch.Tensor, b: torch.Tensor):
    return torch.mm(a, b)


def fork_twice(a: torch.Tensor, b: torch.Tensor):
    first, second = torch.jit.fork(mm, a, b), torch.jit.fork(mm, a, b)
    return torch.jit.wait(first) + torch.jit.wait(second)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_torchscript_forks_is_counted():
    parallel = torch.jit.script(fork_twice)
    with FLOPsMeter() as meter:
        parallel(A, B)
    assert meter.count.forward == 2 * PRODUCT + 3 * 5


def test_child_processes_are_numbered_and_not_counted():
    context = get_context("spawn")
    with FLOPsMeter() as outer:
        context.Process(target=int).start()
        with FLOPsMeter() as inner, context.Pool(2) as pool:
            assert pool.map(abs, [-1]) == [1]
    assert (inner.child_processes, outer.child_processes) == (2, 3)
    assert not outer.uncounted
    assert str(outer).splitlines()[-1] == "child processes, counted by nobody: 3"


def fork():
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)


def multiply():
    """For a child process to run."""
    return A @ B


def join(process):
    process.start()
    process.join()


async def run_to_its_end():
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()


@pytest.mark.posix("most of these")
@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: subprocess.run([sys.executable, "-c", ""], check=True, close_fds=False),
        lambda: subprocess.check_output("true", shell=True),
        lambda: os.popen("true").close(),
        lambda: os.system("true"),
        lambda: os.waitpid(os.posix_spawn(shutil.which("true"), ["true"], {}), 0),
        lambda: os.spawnlp(os.P_WAIT, "true", "true"),
        fork,
        lambda: join(get_context("fork").Process(target=multiply)),
        lambda: join(get_context("spawn").Process(target=multiply)),
        lambda: join(get_context("forkserver").Process(target=multiply)),
        lambda: asyncio.run(run_to_its_end()),
    ],
    ids=["run", "posix_spawn-of-subprocess", "shell", "popen", "system", "posix_spawn", "spawn",
         "fork", "mp-fork", "mp-spawn", "mp-forkserver", "asyncio"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*fork", "ignore::ResourceWarning")
def test_a_child_process_is_numbered_once_however_it_is_started(start):
    with FLOPsMeter() as meter:
        start()
        A @ B
    assert meter.child_processes == 1
    assert meter.count.forward == PRODUCT


def test_a_child_process_that_does_not_start_is_not_numbered():
    with FLOPsMeter() as meter, pytest.raises(FileNotFoundError):
        subprocess.run(["/no/such/program"], check=False)
    assert meter.child_processes == 0


REPLACED = (
    (threading.Thread, "start"),
    (ThreadPoolExecutor, "submit"),
    (BaseProcess, "start"),
    (subprocess.Popen, "__init__"),
    *[(os, "fork")] * hasattr(os, "fork"),
    (os, "system"),
)


def replaced() -> list:
    return [vars(owner)[name] for owner, name in REPLACED]


def test_nothing_is_left_replaced_and_what_is_has_its_name_and_parameters():
    before = replaced()
    with FLOPsMeter():
        for old, new in zip(before, replaced(), strict=True):
            assert new is not old
            assert new.__qualname__ == old.__qualname__
            assert inspect.signature(new) == inspect.signature(old)
        with FLOPsMeter():
            pass
        assert replaced() != before
    assert replaced() == before


def test_what_somebody_else_has_replaced_meanwhile_stays(monkeypatch):
    before = ThreadPoolExecutor.submit
    with FLOPsMeter():
        theirs = partial(ThreadPoolExecutor.submit)
        monkeypatch.setattr(ThreadPoolExecutor, "submit", theirs)
    assert ThreadPoolExecutor.submit is theirs
    with ThreadPoolExecutor(1) as executor:
        assert theirs(executor, torch.mm, A, B).result().shape == (3, 5)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", before)


def test_an_interruption_leaves_nothing_replaced(monkeypatch):
    class Interrupting:
        @property
        def start(self):
            raise KeyboardInterrupt

    before = replaced()
    monkeypatch.setattr(threads, "_PROCESSES", ((Interrupting(), "start"),))
    with pytest.raises(KeyboardInterrupt), FLOPsMeter():
        pass
    assert replaced() == before
    assert torch.autograd.is_multithreading_enabled()
    assert not _get_current_dispatch_mode_stack()


def test_a_thread_is_let_go_as_without_a_meter():
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


def test_a_run_that_is_the_threads_own_stays_its_own():
    thread = threading.Thread()
    thread.run = own = lambda: torch.mm(A, B)
    with FLOPsMeter() as meter:
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
    assert thread.run is own
    assert meter.count == FLOPsCount(PRODUCT)


def test_a_backward_that_the_user_keeps_in_its_thread_stays_there():
    with torch.autograd.set_multithreading_enabled(False):
        with FLOPsMeter():
            pass
        assert not torch.autograd.is_multithreading_enabled()
    assert torch.autograd.is_multithreading_enabled()


def test_meters_of_tasks_that_overlap_out_of_order_are_refused_and_leave_nothing():
    async def count(ends: asyncio.Event, other_ends: asyncio.Event | None) -> None:
        try:
            with FLOPsMeter():
                await asyncio.sleep(0)
                if other_ends is not None:
                    await other_ends.wait()
        finally:
            ends.set()

    async def both() -> list[object]:
        first, second = asyncio.Event(), asyncio.Event()
        tasks = count(first, None), count(second, first)
        return await asyncio.gather(*tasks, return_exceptions=True)

    before = replaced()
    outer, inner = asyncio.run(both())
    assert "one that was entered after it still counts" in str(outer)
    assert "it ended with the meter around it" in str(inner)
    assert "asyncio's tasks share a thread" in str(outer)
    assert not _get_current_dispatch_mode_stack()
    assert torch.autograd.is_multithreading_enabled()
    assert replaced() == before


def test_an_error_of_the_block_says_more_than_that_its_meters_overlap():
    inner = FLOPsMeter()

    def fail():
        inner.__enter__()
        raise KeyError

    with pytest.raises(KeyError), FLOPsMeter():
        fail()
    assert not inner.active
    assert not _get_current_dispatch_mode_stack()


def test_a_meter_is_left_in_the_thread_that_entered_it(old):
    with FLOPsMeter() as meter:

        def leave():
            with pytest.raises(RuntimeError, match="in the thread that has entered it"):
                meter.__exit__(None, None, None)

        old.run(leave)
        torch.mm(A, B)
    assert meter.count == FLOPsCount(PRODUCT)
