//! Where workloads are measured: a bind mount, a FUSE server's mount, or a container.
