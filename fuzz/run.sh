#!/bin/sh
# Builds every target and runs each for some seconds: fuzz/run.sh SECONDS [TARGET...]
#
# Needs no nightly toolchain and no cargo-fuzz: RUSTC_BOOTSTRAP=1 lets a stable compiler use its
# sanitizer and coverage passes. New inputs go to fuzz/corpus, failing ones to fuzz/artifacts.
set -eu
cd "$(dirname "$0")"
seconds=${1:-10}
[ $# -gt 0 ] && shift
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_BOOTSTRAP=1
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=${SANITIZER:-address}"
export RUSTC_BOOTSTRAP RUSTFLAGS
# Some targets need files: in memory, where there is such a place, and removed at the end.
TMPDIR=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
cargo build --quiet --release --target "$host" --bins
[ $# -gt 0 ] || set -- $(ls fuzz_targets | sed 's/\.rs$//')
failed=0
for target in "$@"; do
    mkdir -p "corpus/$target" "seeds/$target" "artifacts/$target"
    "target/$host/release/$target" "corpus/$target" "seeds/$target" \
        -max_total_time="$seconds" -artifact_prefix="artifacts/$target/" -rss_limit_mb=2048 \
        -timeout=20 -print_final_stats=1 >"artifacts/$target.log" 2>&1 || {
        failed=1
        echo "$target FAILED:"
        grep -m 3 -E 'panicked|ERROR|SUMMARY' -A 2 "artifacts/$target.log" || tail -5 "artifacts/$target.log"
    }
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$target.log")
    coverage=$(sed -n 's/^#.* \(cov: .*\) exec\/s.*/\1/p' "artifacts/$target.log" | tail -1)
    echo "$target: ${executions:-0} executions, $coverage"
done
exit $failed
