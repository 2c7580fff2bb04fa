//! The program from end to end: two processes, real sockets, real disks. One test program for all of it, since each
//! links the whole of the crate.

mod atomic;
mod bench;
mod budget;
mod codes;
mod connections;
mod consent;
mod delta;
mod disk_faults;
mod durability;
mod existing;
mod failures;
mod file_systems;
mod killed;
mod link;
mod link_transfer;
mod meeting;
mod moving;
mod path_memory;
mod peers;
mod pki;
mod power;
mod readers;
mod receipts;
mod reconnect;
mod secrets;
mod selection;
mod skips;
mod sources;
mod ssh;
mod staying;
mod support;
mod tickets;
mod told_paths;
mod transfer;
mod tree;
