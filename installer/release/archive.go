package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is a file of an archive.
type entry struct {
	name string // in the archive, with slashes
	from string // on disk
	mode int64
}

// entries are what an archive has, below one folder.
func (r *release) entries(t target) ([]entry, error) {
	base := "certconnector-" + r.version + "-" + t.String() + "/"
	list := []entry{
		{base + t.program(), r.programFile(t), 0o755},
		{base + "LICENSE", "LICENSE", 0o644},
		{base + "README.md", "README.md", 0o644},
		{base + "third-party.txt", filepath.Join(r.stage, "third-party.txt"), 0o644},
	}
	globs := map[string]string{"configs/": "configs/*.yaml"}
	if t.os == "linux" {
		globs["man/"] = filepath.Join(r.stage, "man", "*.8")
		globs["completions/"] = filepath.Join(r.stage, "completions", "*certconnector*")
		globs["systemd/"] = "installer/linux/certconnector.*"
		list = append(list,
			entry{base + "systemd/sysusers.conf", "installer/linux/sysusers.conf", 0o644},
			entry{base + "systemd/tmpfiles.conf", "installer/linux/tmpfiles.conf", 0o644})
	} else {
		globs["completions/"] = filepath.Join(r.stage, "completions", "*.ps1")
	}
	for folder, pattern := range globs {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("%s matches nothing: %v", pattern, err)
		}
		for _, f := range files {
			list = append(list, entry{base + folder + filepath.Base(f), f, 0o644})
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

// archive makes a target's archive: tar.gz, or zip for Windows.
func (r *release) archive(t target) error {
	list, err := r.entries(t)
	if err != nil {
		return err
	}
	pack, ext := packTar, ".tar.gz"
	if t.os == "windows" {
		pack, ext = packZip, ".zip"
	}
	path := filepath.Join(r.out, "certconnector-"+r.version+"-"+t.String()+ext)
	say("packing", filepath.Base(path))
	var b bytes.Buffer
	if err := pack(&b, list, r.when); err != nil {
		return fmt.Errorf("packing %s: %w", path, err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing an archive: %w", err)
	}
	return nil
}

// packTar names no owner and gives every file one time.
func packTar(w io.Writer, list []entry, when time.Time) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, e := range list {
		b, err := os.ReadFile(e.from)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(b)), ModTime: when, Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(b); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func packZip(w io.Writer, list []entry, when time.Time) error {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, e := range list {
		b, err := os.ReadFile(e.from)
		if err != nil {
			return err
		}
		f, err := z.CreateHeader(&zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: when})
		if err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return z.Close()
}

// writeSums lists the checksum of every file of the result.
func (r *release) writeSums() error {
	entries, err := os.ReadDir(r.out) // sorted
	if err != nil {
		return fmt.Errorf("listing the result: %w", err)
	}
	var sums strings.Builder
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return fmt.Errorf("reading the result: %w", err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), e.Name())
	}
	if err := os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(sums.String()), 0o644); err != nil {
		return fmt.Errorf("writing the checksums: %w", err)
	}
	say(sums.String())
	return nil
}
