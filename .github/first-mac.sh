#!/usr/bin/env bash
# The commands of docs/first-mac.md without a person, in the clone: bash .github/first-mac.sh FOLDER
# What each prints is kept in the folder. Red for a crash or wrong numbers; a kernel that is off is not red.
# MODEL is what is chatted with, timed and trained (smollm2). Needs tmux, for a terminal.
set -uo pipefail
out=${1:?a folder for what is printed: bash .github/first-mac.sh FOLDER}
mkdir -p "$out" && out=$(cd "$out" && pwd) && cd "$(dirname "$0")/.." || exit 2
export LIKELY_MODEL=${MODEL:-smollm2} PYTHONPATH=$PWD
python=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo venv/bin/python)
likely=("$python" -m likely.app)
text="The capital of France is Paris, and the capital of Italy is Rome."
failed=()

kept() {  # NAME COMMAND...: its output in NAME.txt, and on the screen
  local name=$1; shift
  echo "== $name: $*"
  "$@" 2>&1 </dev/null | tee "$out/$name.txt" || failed+=("$name")
}

chat() {  # the full screen, asked one question
  tmux -L first-mac new-session -d -x 120 -y 40 "PYTHONPATH= make chat" || return 1
  local seen=1 asked=
  for _ in $(seq 120); do
    sleep 1
    tmux -L first-mac capture-pane -p >"$out/screen.txt" || break
    if [ -z "$asked" ] && grep -q "f2 chat" "$out/screen.txt"; then
      tmux -L first-mac send-keys "What is the capital of France?" Enter && asked=1
    elif grep -q "tok · ppl" "$out/screen.txt"; then seen=0 && break; fi
  done
  cat "$out/screen.txt"
  tmux -L first-mac kill-server
  return $seen
}

tuned=$(mktemp -d)
trap 'rm -rf "$tuned"' EXIT
kept pull "${likely[@]}" pull "$LIKELY_MODEL"
kept 1-chat chat
kept 2-doctor "${likely[@]}" doctor
"${likely[@]}" doctor --json >"$out/doctor.json" </dev/null || failed+=(doctor.json)
kept 3-bench "${likely[@]}" bench --against mlx-lm --rounds 2
kept 4-tune "${likely[@]}" tune docs/tour.md --steps 5 --out "$tuned/adapter"
"${likely[@]}" explain --json "$text" >"$out/here.json" </dev/null || failed+=(here.json)
LIKELY_METAL=0 "${likely[@]}" explain --json "$text" >"$out/cpu.json" </dev/null || failed+=(cpu.json)
kept 5-agree "$python" .github/agree.py "$out/here.json" "$out/cpu.json"
LIKELY_COMPILE=0 kept 6-uncompiled "${likely[@]}" run "What is the capital of France?" --temp 0 --max-tokens 12
kept 7-kernels "${likely[@]}" bench kernels  # last: a driver that a kernel breaks stays broken

if [ ${#failed[@]} -gt 0 ]; then
  echo "red: ${failed[*]}"
  exit 1
fi
echo "all of it ran"
