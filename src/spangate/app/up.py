"""`spangate up`: Spanner, authority, checkpoint and gateway, started in order and ended in the reverse one.

Rules: every part is registered for its end before the next one starts; whatever ends this program ends all of them.
A part that dies is started again where it was (supervisor.py); until then nobody is let through by default. Only
Spanner's emulator is not: its data is gone, so its end is told and the rest is torn down.
Not here: rendering (cli/), what each step starts (up_steps.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from spangate.app.stopping import Stop, Stopped, ignore_signals, stoppable
from spangate.app.supervisor import POLL_SECONDS, Part, Relay
from spangate.app.up_options import Installed, UpOptions
from spangate.app.up_steps import (
    prepare,
    running_of,
    start_the_authority,
    start_the_broker,
    start_the_checkpoint,
    start_the_database,
    start_the_gateway,
)
from spangate.compiler.gateway import LISTENER


def up(
    options: UpOptions,
    *,
    progress: Callable[[str], None],
    started: Callable[[Installed], None],
    notice: Callable[[str], None],
) -> None:
    """Run until a signal comes; then return. Raises SpangateError when a part cannot start or live.

    `progress` gets what is being done, `started` once what runs, `notice` what happens later.
    """
    began = time.monotonic()
    with stoppable() as stop:

        def told(text: str) -> None:
            stop.check()
            progress(text)

        try:
            with ExitStack() as stack:
                try:
                    installed, parts, relays = _start(stack, options, told, notice, began, stop)
                    started(installed)
                    _watch(parts, relays, notice, stop)
                finally:
                    # Nothing may interrupt the tear-down.
                    ignore_signals()
        except Stopped:
            pass


def _start(
    stack: ExitStack,
    options: UpOptions,
    progress: Callable[[str], None],
    notice: Callable[[str], None],
    began: float,
    stop: Stop,
) -> tuple[Installed, list[Part], list[Relay]]:
    site = prepare(stack, options, progress, notice, stop)
    # It starts while Spanner does, and the checkpoint while the rest does.
    authority_plan, authority = start_the_authority(site)
    spanner = start_the_database(site)
    checkpoint_plan, checkpoint = start_the_checkpoint(site, spanner)
    authority.wait(stop)
    tokens = start_the_broker(site, spanner, authority_plan)
    gateway = start_the_gateway(site, spanner, authority_plan, checkpoint_plan, tokens)
    checkpoint.wait(stop)
    if tokens is not None:
        tokens.wait(stack, stop, notice)
    running = running_of(site, spanner, authority_plan, tokens, gateway.wait_until_ready(LISTENER))
    site.state.announce(running)
    stack.callback(site.state.withdraw)
    installed = Installed(
        policy=spanner.policy,
        running=running,
        authority="keys end with it" if options.keys is None else f"keys in {options.keys}",
        emulator=spanner.told,
        state=site.state.path,
        parts={part.name: part.child.pid for part in site.parts},
        seconds=time.monotonic() - began,
    )
    logs = [authority_plan.log, checkpoint_plan.log, *([] if tokens is None else [tokens.broker_plan.log])]
    return installed, site.parts, [Relay(log) for log in logs]


def _watch(parts: list[Part], relays: list[Relay], notice: Callable[[str], None], stop: Stop) -> None:
    while True:
        stop.check()
        for relay in relays:
            for line in relay.lines():
                notice(line)
        for part in parts:
            part.look(notice)
        time.sleep(POLL_SECONDS)
