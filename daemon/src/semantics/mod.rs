//! Semaphores, queues and segment records.
