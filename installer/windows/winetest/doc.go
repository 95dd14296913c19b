// Package winetest gives tests a Windows of their own: a fresh Wine prefix in
// which programs made by Go run. Only one exists on a machine at a time; the
// next test waits for it. What Wine lacks is listed in docs/compatibility.md.
//
// On Debian: apt-get install --no-install-recommends wine64 gcc-mingw-w64-x86-64
package winetest
