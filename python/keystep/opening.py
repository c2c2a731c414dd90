"""From a bundle to a policy."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from typing import Any

from keystep import _core
from keystep.arguments import engine_options
from keystep.code_runtime import CodeRuntime
from keystep.libraries import find_extensions, find_onnxruntime
from keystep.manifests import family_of
from keystep.runtime import Runtime
from keystep.virtual_time import VirtualTime

OF_WRITING = ("way", "early_stop", "every", "constrained")
OF_LOOPS = (
    *("inference_steps", "sampler", "planner_steps", "planner_sampler", "planner_candidates"),
    *("planner_score", "replan", "strict_text", "max_observation_age_us", "clock", "mode", "underrun"),
    *("merge", "merge_decay", "merge_overlap", "request_below", "blend_actions", "ensemble_decay"),
    *("plan_ahead", "watchdog_us", "virtual_time"),
)


def load(
    path: str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int = 0,
    engine: str = "auto",
    precision: str | None = None,
    isa: str | None = None,
    pin_threads: bool = False,
    spin_us: int = 100,
    optimization: str = "all",
    inference_steps: int = 0,
    sampler: str = "",
    planner_steps: int = 0,
    planner_sampler: str = "",
    planner_candidates: int = 1,
    planner_score: str = "",
    replan: bool | None = None,
    strict_text: bool = False,
    deadline_us: float = 0.0,
    max_observation_age_us: int = 0,
    clock: str = "steady",
    mode: str = "lockstep",
    underrun: str = "",
    merge: str = "",
    merge_decay: str = "",
    merge_overlap: int | None = None,
    request_below: int = 0,
    blend_actions: int = 0,
    ensemble_decay: float | None = None,
    plan_ahead: int | None = None,
    watchdog_us: int = 2_000_000,
    virtual_time: VirtualTime | None = None,
    way: str | None = None,
    early_stop: int | None = None,
    every: int | None = None,
    constrained: bool | None = None,
    trace: str | os.PathLike[str] | None = None,
    provider_options: dict[str, str] | None = None,
    onnxruntime_library: str | os.PathLike[str] | None = None,
    extensions_library: str | os.PathLike[str] | None = None,
) -> Any:
    """Open a bundle: a `Runtime`, of the family `code` a `CodeRuntime`.

    Args:
        path: the bundle's folder, `name.keystep`.
        provider: cpu, openvino, cuda or tensorrt.
        threads: threads inside an operator or a U-Net; 0: one per core (physical ones, those of the affinity
            mask, the cgroup's CPU quota, whatever is least), which is also the most.
        engine: auto (keystep's own CPU kernels for the U-Nets whose bundle has weights for them, ONNX Runtime
            for the rest), native (the same, or ProviderError), onnxruntime (for everything), or stub (no
            inference; measures the loop itself). `Runtime.engine_choices` says what runs where.
        precision: of those U-Nets: fp32, bf16 or int8, not above that of the file; None: as exported.
        isa: portable, avx2, avx512, avx512_bf16 or avx512_vnni; None: the best that this CPU has.
        pin_threads: each native thread stays on one core.
        spin_us: native threads that wait spin so long, 0..100000 us, then they sleep.
        optimization: none, basic, extended or all graph optimisations.
        inference_steps: denoise steps of a chunk; 0: as the bundle says.
        sampler: of chunks, ddpm or ddim for a network of diffusion; "": as the bundle says.
        planner_steps: denoise steps of a plan; 0: as the bundle says.
        planner_sampler: of plans, likewise; "": as the bundle says.
        planner_candidates: plans sampled at once, 1..256, of which the best is followed. Plan 0 draws the
            noise of a single one.
        planner_score: what is best. learned: the bundle's scorer, trained on plans that were tried; density:
            the medoid, the plan that is on average nearest to the others; "": learned where the bundle has a
            scorer. Refused with a single plan.
        replan: plan anew when a plan is used up, or stay on the last subgoal; None: as the bundle says.
        strict_text: refuse an instruction of whose words the text encoder does not know most, where that is
            known of it; False: TextWarning.
        deadline_us: of a tick, for counting misses; 0: the control period.
        max_observation_age_us: older stamped observations are refused; 0: no limit.
        clock: of `timestamp_us`. steady: `keystep.now_us()` on this machine; a server stamps what arrives.
            external: any other, e.g. simulated time, which every stamped observation gives as `now_us`. A
            stamp more than 10 ms ahead is of another clock (the wall's?), and always refused.
        mode: lockstep computes inside `act`, reproducible to the bit. async: planner and controller have
            threads, and `act` never waits (docs/real_time.md). The next nine are for it alone.
        underrun: what `act` gives while there is no action of the policy. hold: the bundle's hold;
            decelerate: towards it, within the rate limits, where actions are relative; repeat: the last
            action, a few times and never after an interrupt, then hold; fault: PolicyError "underrun". "":
            hold.
        merge: how a chunk joins the one before. In the sampler: trained (bundles with `chunk.max_delay`) or
            x0blend (controllers with a sampler), docs/merging.md; afterwards: blend, replace, or
            temporal_ensemble (ACT). "": temporal_ensemble where the bundle says so, else trained, else
            x0blend, else blend. Lockstep takes temporal_ensemble with bundles that execute 1 action, and
            replace, which is what it does else.
        merge_decay: of x0blend: exponential or linear, how the old chunk's weight falls behind what is
            executed meanwhile; "": exponential.
        merge_overlap: of x0blend: the first row of a new chunk that is wholly new, 0..rows of a chunk, never
            below the delay; None: what leaves the delay's rows to the chunk after it.
        request_below: a new chunk is asked for when fewer actions are left, 1..rows of a chunk; 0: after half
            a chunk or as many as the bundle executes, whatever comes first.
        blend_actions: over which the old chunk fades; 0: half a chunk.
        ensemble_decay: m of the weights exp(-m i), i = 0 the oldest chunk; None: as the bundle says, else
            0.01.
        plan_ahead: a planner is asked so many actions before its goal is used up; -1: as many as recent plans
            and chunks took; None: as the bundle says (`planner.plan_ahead`), -1 where it says nothing.
        watchdog_us: a longer call of the engine is a hung one; 0: never.
        virtual_time: for simulation (docs/latency.md): what chunks and plans take is declared, one tick is
            one control period, no threads. Lockstep stands still meanwhile, and takes `underrun`, too.
        way: of family code, as the next three: greedy, early_stop or draft (docs/writing.md); None: as the
            bundle says, as of the next three.
        early_stop: so many characters of the commented last key-step say that it goes on.
        every: control steps from one question to the next.
        constrained: replies are code of the bundle's API, plain or commented, nothing else
            (docs/constrained.md).
        trace: a file, `run.pftrace`, that grows as the policy runs, for https://ui.perfetto.dev: what each
            tick took, of all sessions. See docs/profiling.md.
        provider_options: handed to the provider as they are.
        onnxruntime_library: path of libonnxruntime.so; by default that of the installed onnxruntime wheel.
        extensions_library: path of the operators of onnxruntime-extensions, which some text encoders need; by
            default that of the installed wheel.

    Raises:
        BundleError: the bundle is damaged, unsafe, newer, or disagrees with itself.
        ProviderError: the engine or provider is not available; the message names the package that brings it.
        ArgumentError: an option is out of range, or of another family.
        Error: the trace cannot be written.
    """
    given = locals()
    writes = family_of(path) == "code"
    _refuse(given, OF_LOOPS if writes else OF_WRITING, "none" + (" (family code)" if writes else ""))
    options: Any = _core.CodeOptions() if writes else _core.RuntimeOptions()
    options.engine = engine_options(
        engine=engine,
        precision=precision,
        isa=isa,
        pin_threads=pin_threads,
        spin_us=spin_us,
        provider=provider,
        threads=threads,
        optimization=optimization,
        provider_options=provider_options,
        onnxruntime_library=find_onnxruntime() if onnxruntime_library is None else onnxruntime_library,
        extensions_library=find_extensions() if extensions_library is None else extensions_library,
    )
    options.deadline_us = deadline_us
    if trace is not None:
        _core.read_manifest(path)  # before the file is emptied: a mistyped bundle costs no older trace
        options.tracer = _core.Tracer(trace)
    if writes:
        options.way, options.early_stop = way, early_stop
        options.every, options.constrained = every, constrained
        return CodeRuntime(_core.CodeRuntime(path, options))
    options.inference_steps = inference_steps
    options.sampler = sampler
    options.planner_steps = planner_steps
    options.planner_sampler = planner_sampler
    options.planner_candidates = planner_candidates
    options.planner_score = planner_score
    options.replan = replan
    options.strict_text = strict_text
    options.max_observation_age_us = max_observation_age_us
    options.clock = clock
    options.mode = mode
    options.asynchronous.underrun = underrun
    options.asynchronous.merge = merge
    options.asynchronous.merge_decay = merge_decay
    options.asynchronous.merge_overlap = merge_overlap
    options.asynchronous.request_below = request_below
    options.asynchronous.blend_actions = blend_actions
    options.asynchronous.ensemble_decay = ensemble_decay
    options.asynchronous.plan_ahead = plan_ahead
    options.asynchronous.watchdog_us = watchdog_us
    if virtual_time is not None:
        options.in_virtual_time(list(virtual_time.chunk), list(virtual_time.plan), virtual_time.skips)
    return Runtime(_core.Runtime(path, options))


def _refuse(given: dict[str, Any], names: Iterable[str], wanted: str) -> None:
    """Options that are not this family's."""
    known = inspect.signature(load).parameters
    for name in names:
        if given[name] != known[name].default:
            raise _core.ArgumentError(_core.expected(name, wanted, given[name]))
