// Package windows holds no Go code but tests: the package for Windows is
// described by certconnector.wxs and by the tables of Windows Installer in
// tables/, which installer/release puts together.
package windows
