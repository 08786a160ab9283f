"""What runs on the GPUs, and who gives way: batches first, training steps in what they leave.

One compute engine a GPU: a batch or a step has it alone and is never interrupted, and a change
from one kind to the other costs a switch. Memory is taken for real: what does not fit drives a
training job out, and where that is not enough, it is an out-of-memory event.
"""

from collections.abc import Callable, Iterable
from typing import Literal

from libs.fleet.events import BatchEnded, Gone, HandedBack, StepEnded
from libs.fleet.gpu import Gpu, Replica, Run
from libs.fleet.timeline import NEVER_MS, Timeline
from libs.fleet.training import Backlog, Job, gives_way_in_time, next_step_ms


class Engines:
    """The compute and the memory of all GPUs.

    `look_at` is the one way by which anything starts: a look at an idle GPU gives it its next work,
    and a look at a busy one changes nothing, so one look too many does no harm.
    """

    def __init__(
        self,
        timeline: Timeline,
        replicas: dict[str, Replica],
        backlog: Backlog,
        switch_ms: float,
        begin_load: Callable[[Replica], None],
    ) -> None:
        self._timeline = timeline
        self._replicas = replicas
        self._backlog = backlog
        self._switch_ms = switch_ms
        self._begin_load = begin_load

    def look_at(self, gpus: Iterable[Gpu], at_ms: float) -> None:
        """Look at GPUs at a time, unless a look at or before it is planned."""
        for gpu in gpus:
            if at_ms < gpu.look_ms:
                gpu.look_ms = at_ms
                self._timeline.at(at_ms, self._look_if_due, gpu)

    def claim(self, replica: Replica, bytes_per_gpu: int) -> bool:
        """Return whether a replica can have this memory on each of its GPUs now.

        Where it cannot, training jobs in its way begin to leave and a look follows; where even
        their leaving is not enough, the replica is killed.
        """
        short = [g for g in replica.gpus if g.allocated_bytes + bytes_per_gpu > g.memory_bytes]
        for gpu in short:
            given_back = gpu.job.memory_bytes if gpu.job else 0
            if gpu.allocated_bytes - given_back + bytes_per_gpu > gpu.memory_bytes:
                gpu.out_of_memory += 1
                self.hand_back(replica)
                self.remove(replica, "out of memory")
                return False
        for gpu in short:
            self._evict(gpu)
        return not short

    def hand_back(self, replica: Replica) -> None:
        """Return what waits at a replica to the caller."""
        requests = tuple(request for _, request in replica.queue)
        replica.queue.clear()
        for gpu in replica.gpus:
            gpu.settle(self._timeline.now_ms)
            gpu.requests -= len(requests)
        if requests:
            self._timeline.tell(
                HandedBack(self._timeline.now_ms, replica.name, replica.spec.name, requests)
            )

    def remove(self, replica: Replica, reason: Literal["ordered", "out of memory"]) -> None:
        """Take a replica that holds no request off its GPUs."""
        assert not replica.queue, replica.name
        assert not replica.running, replica.name
        for gpu in replica.gpus:
            gpu.settle(self._timeline.now_ms)
            gpu.replicas.remove(replica)
        replica.state = "gone"
        del self._replicas[replica.name]
        self._timeline.changed.add(replica.gpus[0].node)
        self._timeline.tell(Gone(self._timeline.now_ms, replica.name, reason))
        self.look_at(replica.gpus, self._timeline.now_ms)

    # --- Serving ----------------------------------------------------------------------------------

    def _look_if_due(self, gpu: Gpu) -> None:
        if gpu.look_ms <= self._timeline.now_ms:
            gpu.look_ms = NEVER_MS
            self._look(gpu)

    def _look(self, gpu: Gpu) -> None:
        """Give an idle GPU its next work: the batch that has waited longest, or else a step."""
        if gpu.run is not None:
            return
        waiting = [replica for replica in gpu.replicas if replica.queue]
        # The same order on every GPU, so replicas over several GPUs cannot wait for each other.
        for replica in sorted(waiting, key=lambda r: (r.queue[0][0], r.name)):
            if replica.ready_ms() > self._timeline.now_ms:
                self.look_at([gpu], replica.ready_ms())
            elif all(other.run is None for other in replica.gpus):
                self._start_batch(replica)
                return
            else:
                return  # kept free for it until its other GPUs are free
        if not waiting:
            self._train(gpu)

    def _start_batch(self, replica: Replica) -> None:
        size = min(len(replica.queue), replica.batch_size)
        batch_bytes = replica.batch_bytes_per_gpu(size)
        if not self.claim(replica, batch_bytes):
            return
        requests = tuple(replica.queue.popleft()[1] for _ in range(size))
        replica.running = size
        now_ms = self._timeline.now_ms
        switches = any(gpu.last == "training" for gpu in replica.gpus)
        work_from_ms = now_ms + (self._switch_ms if switches else 0.0)
        ends_ms = work_from_ms + replica.service_ms(size)
        run = Run(replica.gpus, work_from_ms, ends_ms, replica, requests)
        for gpu in replica.gpus:
            gpu.settle(now_ms)
            gpu.run, gpu.last, gpu.batch_bytes = run, "serving", batch_bytes
        self._timeline.at(ends_ms, self._end_batch, run)

    def _end_batch(self, run: Run) -> None:
        now_ms, replica = self._timeline.now_ms, run.replica
        assert replica is not None
        service_ms = replica.service_ms(len(run.requests))
        for gpu in run.gpus:
            gpu.settle(now_ms)
            gpu.run, gpu.batch_bytes = None, 0
            gpu.requests -= len(run.requests)
            gpu.busy_serving_ms += service_ms
        replica.running = 0
        self._timeline.tell(
            BatchEnded(
                now_ms,
                replica.name,
                replica.spec.name,
                run.gpus[0].device_type,
                service_ms,
                run.requests,
            )
        )
        if replica.state == "draining" and not replica.queue:
            self.remove(replica, "ordered")
        self.look_at(run.gpus, now_ms)

    # --- Training ---------------------------------------------------------------------------------

    def _train(self, gpu: Gpu) -> None:
        """Start a step on an idle GPU where no request waits, if it disturbs nobody."""
        if gpu.evicting or gpu.started_ms > self._timeline.now_ms:
            return
        if gpu.job is not None and not gpu.job.steps_left:
            gpu.job = None  # done: its memory is free, and there is nothing to save
        if gpu.job is not None and not gpu.has_room_for(gpu.job):
            self._evict(gpu)  # batches have grown: go now, while nobody waits for it
            return
        jobs = [gpu.job] if gpu.job else self._backlog.next_for(gpu.device_type)
        fitting = (job for job in jobs if gpu.has_room_for(job) and self._gives_way(gpu, job))
        job = next(fitting, None)
        if job is None:
            return
        shares = [replica.serving_share for replica in gpu.replicas if replica.awake]
        if shares:
            from_ms = next_step_ms(gpu.step_from_ms, gpu.step_cost_ms, sum(shares))
            if from_ms > self._timeline.now_ms:
                if from_ms < NEVER_MS:
                    self.look_at([gpu], from_ms)
                return
        self._start_step(gpu, job)

    def _gives_way(self, gpu: Gpu, job: Job) -> bool:
        step_ms = job.spec.step_ms[gpu.device_type]
        return all(
            gives_way_in_time(
                step_ms,
                self._switch_ms,
                replica.wait_ms,
                replica.service_ms(1),
                replica.spec.objective.latency_ms,
            )
            for replica in gpu.replicas
            if replica.awake
        )

    def _start_step(self, gpu: Gpu, job: Job) -> None:
        now_ms = self._timeline.now_ms
        step_ms = job.spec.step_ms[gpu.device_type]
        work_from_ms = now_ms + (self._switch_ms if gpu.last == "serving" else 0.0)
        gpu.settle(now_ms)
        gpu.job = job
        job.steps_left -= 1
        gpu.run = Run((gpu,), work_from_ms, work_from_ms + step_ms)
        gpu.last = "training"
        gpu.step_from_ms, gpu.step_cost_ms = now_ms, step_ms + 2 * self._switch_ms
        self._timeline.at(gpu.run.ends_ms, self._end_step, gpu)

    def _end_step(self, gpu: Gpu) -> None:
        assert gpu.job is not None
        gpu.settle(self._timeline.now_ms)
        gpu.run = None
        gpu.steps += 1
        gpu.busy_training_ms += gpu.job.spec.step_ms[gpu.device_type]
        self._timeline.tell(StepEnded(self._timeline.now_ms, gpu.device, gpu.job.spec.name))
        self.look_at([gpu], self._timeline.now_ms)

    def _evict(self, gpu: Gpu) -> None:
        """Make a job leave: after its running step it saves its state, while serving goes on."""
        if gpu.evicting:
            return
        assert gpu.job is not None
        gpu.settle(self._timeline.now_ms)
        gpu.evicting = True
        stepping = gpu.run is not None and gpu.run.replica is None
        from_ms = gpu.run.ends_ms if gpu.run and stepping else self._timeline.now_ms
        self._timeline.at(from_ms + gpu.job.spec.checkpoint_s * 1000, self._end_eviction, gpu)

    def _end_eviction(self, gpu: Gpu) -> None:
        gpu.settle(self._timeline.now_ms)
        gpu.job, gpu.evicting = None, False
        for replica in list(gpu.replicas):
            if replica.state == "loading" and not replica.has_memory:
                self._begin_load(replica)
        self.look_at([gpu], self._timeline.now_ms)
