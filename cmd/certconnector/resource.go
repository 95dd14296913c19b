package main

// The linker takes the resource into the program for Windows: the texts of
// events. A test compares it with eventid.All.
//go:generate go run ../../internal/eventid/mkresource certconnector_windows_amd64.syso
