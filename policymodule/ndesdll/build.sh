#!/bin/sh
# Builds certconnector-ndespolicy.dll with mingw-w64. The same sources and the
# same compiler give the same bytes. Usage: build.sh [output folder]
# On Debian: apt-get install gcc-mingw-w64-x86-64
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
# Relative names and one locale, so that no path of this machine is in the file.
cd "$here/src"
export LC_ALL=C SOURCE_DATE_EPOCH=0
x86_64-w64-mingw32-windres -O coff -o "$objects/version.o" version.rc
x86_64-w64-mingw32-gcc -std=gnu11 -O2 -Wall -Wextra -Werror -Wshadow -Wno-cast-function-type \
	-DUNICODE -D_UNICODE -D_WIN32_WINNT=0x0A00 -D__USE_MINGW_ANSI_STDIO=1 \
	-fstack-protector-strong -D_FORTIFY_SOURCE=2 -ffile-prefix-map="$here=." \
	-s -shared -static -static-libgcc \
	-Wl,--no-insert-timestamp -Wl,--build-id=none -Wl,--image-base=0x180000000 -Wl,--dynamicbase -Wl,--nxcompat -Wl,--high-entropy-va \
	-o "$out/certconnector-ndespolicy.dll" ./*.c ndespolicy.def "$objects/version.o" \
	-lwinhttp -lcrypt32 -ladvapi32 -lole32 -luuid -lssp
ls -l "$out/certconnector-ndespolicy.dll" | awk '{print $5, "octets"}'
