"""Long work in a worker process: a queue that survives crashes, progress, and what is done so far."""

from woodfisher_core.jobs.job import Job, JobRequest, JobStatus, Part, Queue
from woodfisher_core.jobs.queue import StoreQueue
from woodfisher_core.jobs.task import Cancelled, Task

__all__ = ["Cancelled", "Job", "JobRequest", "JobStatus", "Part", "Queue", "StoreQueue", "Task"]
