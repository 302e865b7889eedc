#!/usr/bin/env bash
# The whole line on synthetic data: phantom bucket -> real S3 server on loopback -> embeddings -> probes -> pages.
# Called by `make demo`; every command is printed before it runs. Everything lands in ./demo.
set -euo pipefail

participants=${PARTICIPANTS:-60}
port=${PORT:-8333}
demo=demo
export AWS_ACCESS_KEY_ID=phantom AWS_SECRET_ACCESS_KEY=phantom-secret
export XDG_CACHE_HOME=$PWD/$demo/cache
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MLFLOW_DISABLE_TELEMETRY=true

show() { printf '\n$ %s\n' "$*" >&2; "$@"; }

rm -rf "$demo"
mkdir -p "$demo/buckets"
started=$SECONDS

# The positive control is switched on (--effect): a phantom without it carries no signal, and a probe must stay at chance.
show oct-phantom --out "$demo/buckets/eye-dataset" --participants "$participants" --scale 0.2 --effect 12 --seed 7

show rclone serve s3 --auth-key "$AWS_ACCESS_KEY_ID,$AWS_SECRET_ACCESS_KEY" --addr "127.0.0.1:$port" \
    --vfs-cache-mode off "$demo/buckets" > "$demo/rclone.log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 100); do
    (exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    kill -0 $server 2>/dev/null || { cat "$demo/rclone.log" >&2; exit 1; }
    sleep 0.1
done

show extract-embeddings --bucket eye-dataset --endpoint-url "http://127.0.0.1:$port" \
    --store "$demo/store" --encoder random:tiny
show extract-embeddings status --store "$demo/store"

for model in linear lgbm; do
    show classify probe --model "$model" --store "$demo/store" \
        --participants "$demo/buckets/eye-dataset/participants.tsv" --runs "$demo/runs"
done
show reports study --store "$demo/store" --runs "$demo/runs" --out "$demo/report"
show reports case --store "$demo/store" --runs "$demo/runs" --out "$demo/report" \
    --bucket eye-dataset --endpoint-url "http://127.0.0.1:$port"
show reports track --runs "$demo/runs" --tracking-uri "sqlite:///$demo/mlflow.db"

printf '\ndemo done in %s s of work. Open the study page, or a case page:\n  %s\n' \
    "$((SECONDS - started))" "$PWD/$demo/report/study.html"
printf '  %s\n' "$PWD/$demo"/report/case-*.html
