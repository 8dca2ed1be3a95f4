"""ZetaSQL, Google's own GoogleSQL analyser, run as WebAssembly in this process.

Rules: one WasmEngine is one instance and is not thread safe; a call that traps, runs too long or asks for too much
memory kills its instance (EngineCrashed) and nothing else. The analyser sees no file but the time zone database (read
only), no environment, no standard streams and no network.
Not here: where the compiled module lies and when it may be trusted (module_cache.py), what is asked (sql/googlesql.py).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import platform
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from importlib import metadata
from pathlib import Path

import wasmtime
from zetasql.wasi import get_wasm_path

from spangate.adapters.module_cache import ModuleCache, Progress, default_directory, key_of
from spangate.adapters.wasm_memory import with_memory_limit
from spangate.errors import Broken, YourFault
from spangate.settings import INTERVALS, MIB
from spangate.sql.engine import EngineCrashed, EngineFailure

# The watchdog counts in ticks of this length, of the calling thread's processor time: a statement must not become
# unreadable because the machine is busy. A call may outlive its limit by one tick.
TICK_SECONDS = 0.25
# For a statement. The largest that Spanner takes (20 joins of 50 columns) needs a quarter of this; what needs more was
# made to. Well under the time that the gateway waits for an answer, so that it hears a reason unless we are busy.
ANALYSIS_SECONDS_MAX = 0.4 * INTERVALS.checkpoint_timeout_ms / 1000
# For everything else, which is asked by us and not by a client: registering 100,000 columns takes 2 s.
CALL_SECONDS_MAX = 60.0
# A catalog of 100,000 columns takes 50 MiB, statements of any kind some more; the module itself would allow 4 GiB.
MEMORY_BYTES_MAX = 512 * MIB
# ZetaSQL recurses on nested expressions: this is three times what the deepest statement needs that Spanner takes, and
# half of the smallest stack that glibc gives a thread. The rest of that is the runtime's and Python's.
STACK_BYTES_MAX = 1 * MIB
_THREAD_STACK_BYTES_MIN = 2 * MIB

_METHOD_PREFIX = "ZetaSqlLocalService_"
# What is asked with a client's text.
_OF_STATEMENTS = frozenset({"ZetaSqlLocalService_Analyze", "ZetaSqlLocalService_Parse"})
_SIZE_BYTES = 4
_TRAPS = {
    wasmtime.TrapCode.INTERRUPT: "took too long",
    wasmtime.TrapCode.STACK_OVERFLOW: "nested too deeply",
    wasmtime.TrapCode.UNREACHABLE: "gave up",  # abort(): a failed check, or no memory
}
_POINTER_MASK = 0xFFFFFFFF


class WasmEngine:
    """One instance of ZetaSQL, an `spangate.sql.engine.Engine`. Compiles the module first if no cache has it."""

    def __init__(self) -> None:
        _check_stack()
        engine = wasmtime.Engine(_config())
        store = wasmtime.Store(engine)
        store.set_wasi(_wasi())
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        self._store = store
        self._stop = threading.Event()
        self._calls = _Calls()
        self._watchdog = threading.Thread(
            target=_tick, args=(engine, self._stop, self._calls), name="zetasql-watchdog", daemon=True
        )
        self._dead: str | None = None
        weakref.finalize(self, self._stop.set)
        self._watchdog.start()
        self._limit(CALL_SECONDS_MAX)
        self._exports = linker.instantiate(store, _module(engine)).exports(store)
        self._memory = self._exports["memory"]
        self._run("_initialize")
        self._calls.end()

    def call(self, method: str, request: bytes) -> bytes:
        """See `spangate.sql.engine.Engine.call`. Bounded in processor time (see above, and one tick) and in memory."""
        if self._dead is not None:
            raise EngineCrashed(self._dead)
        if not method.startswith(_METHOD_PREFIX):
            raise Broken(f"`{method}` is not a method of ZetaSQL's local service")
        if not self._watchdog.is_alive():  # a fork took the instance along, but not its thread
            raise self._crashed("no watchdog")
        self._limit(ANALYSIS_SECONDS_MAX if method in _OF_STATEMENTS else CALL_SECONDS_MAX)
        request_at = self._allocate(max(len(request), 1))
        size_at = self._allocate(_SIZE_BYTES)
        ctypes.memmove(self._address(request_at, len(request)), request, len(request))
        answer_at = self._run(method, request_at, len(request), size_at)
        try:
            if not answer_at:
                raise EngineFailure(self._last_error())
            size = int.from_bytes(self._read(size_at, _SIZE_BYTES), "little")
            answer = self._read(answer_at, size)
            self._run("wasm_free", answer_at)
            return answer
        finally:
            if self._dead is None:
                self._run("wasm_free", request_at)
                self._run("wasm_free", size_at)
            self._calls.end()

    def close(self) -> None:
        """Gives the memory back. Later calls raise EngineCrashed."""
        self._dead = self._dead or "closed"
        self._stop.set()
        self._store.close()

    @property
    def memory_bytes(self) -> int:
        """How much memory the instance has taken; it never shrinks."""
        return int(self._memory.data_len())

    def _limit(self, seconds: float) -> None:
        self._calls.begin()
        self._store.set_epoch_deadline(int(seconds / TICK_SECONDS) + 1)

    def _crashed(self, reason: str) -> EngineCrashed:
        self._dead = self._dead or reason
        self._stop.set()
        return EngineCrashed(reason)

    def _run(self, function: str, *arguments: int) -> int:
        try:
            result = self._exports[function](self._store, *arguments)
        except wasmtime.Trap as trap:
            raise self._crashed(_TRAPS.get(trap.trap_code, "broke off")) from trap
        except wasmtime.WasmtimeError as error:
            raise self._crashed(f"broke off ({error})") from error
        return 0 if result is None else int(result) & _POINTER_MASK

    def _allocate(self, size: int) -> int:
        if pointer := self._run("wasm_malloc", size):
            return pointer
        raise self._crashed("out of memory")

    def _address(self, pointer: int, size: int) -> int:
        if pointer + size > self._memory.data_len():
            raise self._crashed("a pointer leads outside of the instance")
        return ctypes.addressof(self._memory.data_ptr().contents) + pointer

    def _read(self, pointer: int, size: int) -> bytes:
        return ctypes.string_at(self._address(pointer, size), size)

    def _last_error(self) -> str:
        """ZetaSQL's sentence out of `Code: 3, Message: ...`."""
        size = self._run("wasm_get_last_error_size")
        text = self._read(self._run("wasm_get_last_error"), size).decode("utf-8", "replace") if size else ""
        return text.partition("Message: ")[2] or text or "unknown error"


def precompile(progress: Progress | None = None) -> Path:
    """The compiled module's file, made if it is not there yet (tens of seconds, 1.2 GiB of memory in a child process).

    Raises YourFault if the cache directory cannot be used, or if there is too little memory.
    """
    return _cache().fill(_compiled_by_child, progress or (lambda _: None))


def is_warm() -> bool:
    """Whether a WasmEngine starts at once."""
    return _cache().find() is not None


def _config() -> wasmtime.Config:
    config = wasmtime.Config()
    config.shared_memory = True  # the module declares its memory as shared
    config.epoch_interruption = True
    config.max_wasm_stack = STACK_BYTES_MAX
    return config


def _wasi() -> wasmtime.WasiConfig:
    """Time zones to read, so that `TIMESTAMP '2026-01-01 America/New_York'` is understood; nothing else."""
    wasi = wasmtime.WasiConfig()
    spec = importlib.util.find_spec("tzdata")
    if spec is None or spec.origin is None:
        raise Broken("the package `tzdata` is missing")
    wasi.preopen_dir(str(Path(spec.origin).parent / "zoneinfo"), "/usr/share/zoneinfo", fs_mutable=False)
    return wasi


def _compile() -> bytearray:
    wasm = with_memory_limit(get_wasm_path().read_bytes(), MEMORY_BYTES_MAX)
    code: bytearray = wasmtime.Module(wasmtime.Engine(_config()), wasm).serialize()
    return code


def _compiled_by_child() -> bytes:
    """What `_compile` gives. The compiler never returns its memory to the system; the end of a process does.

    -P: nothing is imported from the directory that we happen to be in.
    """
    child = subprocess.run(  # noqa: S603 - this very module, by this very interpreter
        [sys.executable, "-P", "-m", __spec__.name], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if child.returncode == -signal.SIGKILL:
        raise YourFault("the SQL analyser's compiler was killed", help="it needs 1.2 GiB of memory, once")
    if child.returncode:
        complaint = child.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise Broken(f"the SQL analyser could not be compiled: {complaint}")
    return child.stdout


def _check_stack() -> None:
    """A deep statement must run into our limit, never into the end of the thread's stack: that would be a crash."""
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    for size in (limit, threading.stack_size()):
        # Zero and infinity stand for the library's default.
        if 0 < size < _THREAD_STACK_BYTES_MIN and size != resource.RLIM_INFINITY:
            raise YourFault(
                f"the stack is limited to {size // 1024} KiB", help="the SQL analyser needs 2 MiB: ulimit -s"
            )


def _module(engine: wasmtime.Engine) -> wasmtime.Module:
    def load(path: str) -> wasmtime.Module:
        try:
            return wasmtime.Module.deserialize_file(engine, path)
        except wasmtime.WasmtimeError as error:
            raise ValueError(str(error)) from error

    cache = _cache()
    module = cache.load(load)
    if module is None:
        cache.fill(_compiled_by_child, lambda _: None)
        module = cache.load(load)
    if module is None:
        raise Broken("the SQL analyser was compiled, but cannot be loaded")
    return module


def _cache() -> ModuleCache:
    with get_wasm_path().open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    key = key_of(
        metadata.version("wasmtime"),
        metadata.version("zetasql"),
        content,
        _cpu(),
        f"{MEMORY_BYTES_MAX} epochs",
    )
    return ModuleCache(default_directory(), "zetasql", key)


def _cpu() -> str:
    """The processor's instruction set, since the compiler uses all of it. One home may serve several machines."""
    names = ("flags", "Features")  # x86, Arm
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(names)), "")
    return f"{platform.machine()} {features}"


class _Calls:
    """The call that runs, by the clock of its thread's processor time; the time of day where there is no such clock."""

    def __init__(self) -> None:
        self.running: tuple[int, float] | None = None

    def begin(self) -> None:
        clock = time.pthread_getcpuclockid(threading.get_ident()) if _HAS_THREAD_CLOCKS else time.CLOCK_MONOTONIC
        self.running = clock, time.clock_gettime(clock)

    def end(self) -> None:
        self.running = None


_HAS_THREAD_CLOCKS = hasattr(time, "pthread_getcpuclockid")


def _tick(engine: wasmtime.Engine, stop: threading.Event, calls: _Calls) -> None:
    """Raises the epoch once for every tick that a call has taken."""
    seen: tuple[int, float] | None = None
    told = 0
    while not stop.wait(TICK_SECONDS):
        running = calls.running
        if running is not seen:
            seen, told = running, 0
        if running is None:
            continue
        clock, began = running
        try:
            taken = int((time.clock_gettime(clock) - began) / TICK_SECONDS)
        except OSError:  # the thread ended, and its call with it
            continue
        for _ in range(told, taken):
            engine.increment_epoch()
        told = max(told, taken)


if __name__ == "__main__":
    sys.stdout.buffer.write(_compile())
