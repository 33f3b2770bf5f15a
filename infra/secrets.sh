#!/bin/sh
# Makes the secrets of compose.yaml in infra/secrets, once; what exists is kept. Git does not see the folder.
# The folder is closed to other users of this machine; the files are readable, as containers run under other user ids.
set -eu
folder="$(dirname "$0")/secrets"
mkdir -p "$folder"
chmod 700 "$folder"
for name in postgres_password s3_access_key s3_secret_key ray_token; do
    [ -s "$folder/$name" ] && continue
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/.$name"
    chmod 644 "$folder/.$name"
    mv "$folder/.$name" "$folder/$name"
    echo "made $folder/$name"
done
