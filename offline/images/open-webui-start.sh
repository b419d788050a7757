#!/usr/bin/env bash
# Stands for the official image's start.sh: the same variables, the server in the foreground.
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit

KEY_FILE="${WEBUI_SECRET_KEY_FILE:-.webui_secret_key}"
if [[ -z "${WEBUI_SECRET_KEY}${WEBUI_JWT_SECRET_KEY}" ]]; then
  if ! [[ -e "$KEY_FILE" ]]; then
    head -c 24 /dev/urandom | base64 >"$KEY_FILE" || exit
  fi
  WEBUI_SECRET_KEY="$(<"$KEY_FILE")"
  export WEBUI_SECRET_KEY
fi

exec uvicorn open_webui.main:app --host "${HOST:-0.0.0.0}" --port "${PORT:-8080}" \
  --forwarded-allow-ips "${FORWARDED_ALLOW_IPS:-*}" --workers "${UVICORN_WORKERS:-1}"
