//! adit/1, the tunnel protocol (`protocol/PROTOCOL.md`): bytes in, values out, no I/O.
#![forbid(unsafe_code)]
