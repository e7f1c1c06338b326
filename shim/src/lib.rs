//! libdipc.so
