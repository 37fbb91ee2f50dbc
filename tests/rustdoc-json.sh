#!/bin/sh
# rustdoc with its JSON output, which a stable toolchain gives to those who ask twice. Only this program sees the
# variable: build scripts of dependencies look at it, too, and all would be built anew.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
