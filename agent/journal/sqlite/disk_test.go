package sqlite

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// disk is a SQLite VFS in memory that knows what was synced. On powerFail
// each file falls back to its state at its last sync, then of what was
// written since, sector by sector, some reaches the medium all the same, as
// on a real disk with a cache that writes in any order.
//
// What passing on it proves: SQLite, told what this package tells it, syncs
// before an answer that promises durability, and what it reads afterwards
// does not depend on anything that was not synced. What it does not prove:
// that the operating system and the drive keep the promise of fsync.
type disk struct {
	name string

	mu    sync.Mutex
	files map[string]*diskFile
	open  map[int64]*diskFile
	rng   *rand.Rand
	luck  float64 // part of the unsynced sectors that survives
	syncs int
	fault fault
}

// fault is what the next sync of a write-ahead log does.
type fault int

const (
	noFault fault = iota
	loseWrites
	keepWritesButFail
	noSpace // the next write, not sync, says that the disk is full
)

type diskFile struct {
	now    []byte
	synced []byte
	dirty  map[int]bool // sectors written since the last sync
	log    bool         // a write-ahead log
}

const sector = 512

var (
	disks     sync.Map // *Tsqlite3_vfs as uintptr → *disk
	openFiles sync.Map // handle → *disk
	diskCount atomic.Int64
)

// newDisk registers a disk for one test. Its VFS stays registered with SQLite
// until the process ends, as connections may.
func newDisk(t *testing.T, luck float64) *disk {
	t.Helper()
	d := &disk{
		name: fmt.Sprintf("disk-%d", diskCount.Add(1)), files: map[string]*diskFile{}, open: map[int64]*diskFile{},
		rng: rand.New(rand.NewPCG(1, uint64(luck*100))), luck: luck,
	}
	tls := libc.NewTLS()
	defer tls.Close()
	system := sqlite3.Xsqlite3_vfs_find(tls, 0)
	name, err := libc.CString(d.name) // kept by SQLite
	if err != nil {
		t.Fatal(err)
	}
	size := int(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{}))
	p := sqlite3.Xsqlite3_malloc(tls, int32(size))
	copy(libc.GoBytes(p, size), libc.GoBytes(system, size))
	v := *(**sqlite3.Tsqlite3_vfs)(unsafe.Pointer(&p))
	v.FpNext, v.FzName, v.FszOsFile = 0, name, 16
	v.FxOpen = *(*uintptr)(unsafe.Pointer(&diskOpenFn))
	v.FxDelete = *(*uintptr)(unsafe.Pointer(&diskDeleteFn))
	v.FxAccess = *(*uintptr)(unsafe.Pointer(&diskAccessFn))
	v.FxFullPathname = *(*uintptr)(unsafe.Pointer(&diskFullPathnameFn))
	disks.Store(p, d)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, p, 0); rc != sqlite3.SQLITE_OK {
		t.Fatalf("registering the disk: code %d", rc)
	}
	return d
}

// powerFail takes from every file what was not synced, and the files from
// whoever has them open.
func (d *disk) powerFail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		for n := range f.dirty {
			if d.rng.Float64() < d.luck {
				f.keepSector(n)
			}
		}
		f.now, f.dirty = append([]byte(nil), f.synced...), map[int]bool{}
	}
	clear(d.open)
}

func (f *diskFile) keepSector(n int) {
	from, to := n*sector, min((n+1)*sector, len(f.now))
	if from >= to {
		return
	}
	if grow := to - len(f.synced); grow > 0 {
		f.synced = append(f.synced, make([]byte, grow)...)
	}
	copy(f.synced[from:to], f.now[from:to])
}

func (f *diskFile) write(b []byte, at int64) {
	if grow := int(at) + len(b) - len(f.now); grow > 0 {
		f.now = append(f.now, make([]byte, grow)...)
	}
	copy(f.now[at:], b)
	for n := int(at) / sector; n <= (int(at)+len(b)-1)/sector; n++ {
		f.dirty[n] = true
	}
}

// file is the open file behind SQLite's handle; nil after a power failure.
func file(p uintptr) (*disk, *diskFile) {
	h := int64(binary.NativeEndian.Uint64(libc.GoBytes(p+8, 8)))
	v, ok := openFiles.Load(h)
	if !ok {
		return nil, nil
	}
	d := v.(*disk)
	d.mu.Lock()
	return d, d.open[h]
}

// The functions that SQLite calls. Variables, since a pointer to a function
// variable is what the translated C takes for a function pointer.
var (
	diskOpenFn         = diskOpen
	diskDeleteFn       = diskDelete
	diskAccessFn       = diskAccess
	diskFullPathnameFn = diskFullPathname

	diskCloseFn    = diskClose
	diskReadFn     = diskRead
	diskWriteFn    = diskWrite
	diskTruncateFn = diskTruncate
	diskSyncFn     = diskSync
	diskFileSizeFn = diskFileSize
	diskLockFn     = func(*libc.TLS, uintptr, int32) int32 { return sqlite3.SQLITE_OK }
	diskReservedFn = func(_ *libc.TLS, _, out uintptr) int32 { return putInt(out, 0) }
	diskControlFn  = func(*libc.TLS, uintptr, int32, uintptr) int32 { return sqlite3.SQLITE_NOTFOUND }
	diskSectorFn   = func(*libc.TLS, uintptr) int32 { return sector }
	diskNatureFn   = func(*libc.TLS, uintptr) int32 { return 0 }

	diskMethods = sqlite3.Tsqlite3_io_methods{
		FiVersion: 1,
		FxClose:   *(*uintptr)(unsafe.Pointer(&diskCloseFn)), FxRead: *(*uintptr)(unsafe.Pointer(&diskReadFn)),
		FxWrite: *(*uintptr)(unsafe.Pointer(&diskWriteFn)), FxTruncate: *(*uintptr)(unsafe.Pointer(&diskTruncateFn)),
		FxSync: *(*uintptr)(unsafe.Pointer(&diskSyncFn)), FxFileSize: *(*uintptr)(unsafe.Pointer(&diskFileSizeFn)),
		FxLock: *(*uintptr)(unsafe.Pointer(&diskLockFn)), FxUnlock: *(*uintptr)(unsafe.Pointer(&diskLockFn)),
		FxCheckReservedLock: *(*uintptr)(unsafe.Pointer(&diskReservedFn)), FxFileControl: *(*uintptr)(unsafe.Pointer(&diskControlFn)),
		FxSectorSize: *(*uintptr)(unsafe.Pointer(&diskSectorFn)), FxDeviceCharacteristics: *(*uintptr)(unsafe.Pointer(&diskNatureFn)),
	}
)

func putInt(p uintptr, v int32) int32 {
	if p != 0 {
		binary.NativeEndian.PutUint32(libc.GoBytes(p, 4), uint32(v))
	}
	return sqlite3.SQLITE_OK
}

func diskOpen(_ *libc.TLS, vfs, path, p uintptr, flags int32, out uintptr) int32 {
	v, _ := disks.Load(vfs)
	d := v.(*disk)
	d.mu.Lock()
	defer d.mu.Unlock()
	name := libc.GoString(path)
	f := d.files[name]
	if f == nil {
		// The journal that Create made on the real disk is where this one starts.
		b, err := os.ReadFile(name)
		if err != nil && flags&sqlite3.SQLITE_OPEN_CREATE == 0 {
			return sqlite3.SQLITE_CANTOPEN
		}
		f = &diskFile{now: b, synced: append([]byte(nil), b...), dirty: map[int]bool{}, log: strings.HasSuffix(name, "-wal")}
		d.files[name] = f
	}
	h := diskCount.Add(1)
	d.open[h] = f
	openFiles.Store(h, d)
	binary.NativeEndian.PutUint64(libc.GoBytes(p, 8), uint64(uintptr(unsafe.Pointer(&diskMethods))))
	binary.NativeEndian.PutUint64(libc.GoBytes(p+8, 8), uint64(h))
	return putInt(out, flags)
}

func diskDelete(_ *libc.TLS, vfs, path uintptr, _ int32) int32 {
	v, _ := disks.Load(vfs)
	d := v.(*disk)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, libc.GoString(path))
	return sqlite3.SQLITE_OK
}

func diskAccess(_ *libc.TLS, vfs, path uintptr, _ int32, out uintptr) int32 {
	v, _ := disks.Load(vfs)
	d := v.(*disk)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[libc.GoString(path)] != nil {
		return putInt(out, 1)
	}
	return putInt(out, 0)
}

func diskFullPathname(_ *libc.TLS, _, path uintptr, n int32, out uintptr) int32 {
	name := libc.GoString(path)
	if len(name)+1 > int(n) {
		return sqlite3.SQLITE_CANTOPEN
	}
	b := libc.GoBytes(out, len(name)+1)
	b[copy(b, name)] = 0
	return sqlite3.SQLITE_OK
}

func diskClose(_ *libc.TLS, p uintptr) int32 {
	d, _ := file(p)
	if d != nil {
		h := int64(binary.NativeEndian.Uint64(libc.GoBytes(p+8, 8)))
		delete(d.open, h)
		d.mu.Unlock()
		openFiles.Delete(h)
	}
	return sqlite3.SQLITE_OK
}

func diskRead(_ *libc.TLS, p, buf uintptr, n int32, at int64) int32 {
	d, f := file(p)
	if d == nil {
		return sqlite3.SQLITE_IOERR_READ
	}
	defer d.mu.Unlock()
	if f == nil {
		return sqlite3.SQLITE_IOERR_READ
	}
	b := libc.GoBytes(buf, int(n))
	got := 0
	if at < int64(len(f.now)) {
		got = copy(b, f.now[at:])
	}
	if got < len(b) {
		clear(b[got:])
		return sqlite3.SQLITE_IOERR_SHORT_READ
	}
	return sqlite3.SQLITE_OK
}

func diskWrite(_ *libc.TLS, p, buf uintptr, n int32, at int64) int32 {
	d, f := file(p)
	if d == nil {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	defer d.mu.Unlock()
	if f == nil {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	if d.fault == noSpace {
		d.fault = noFault
		return sqlite3.SQLITE_FULL
	}
	f.write(libc.GoBytes(buf, int(n)), at)
	return sqlite3.SQLITE_OK
}

func diskTruncate(_ *libc.TLS, p uintptr, size int64) int32 {
	d, f := file(p)
	if d == nil {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	defer d.mu.Unlock()
	if f != nil && size < int64(len(f.now)) {
		f.now = f.now[:size]
	}
	return sqlite3.SQLITE_OK
}

func diskSync(_ *libc.TLS, p uintptr, _ int32) int32 {
	d, f := file(p)
	if d == nil {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	defer d.mu.Unlock()
	if f == nil {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	d.syncs++
	failed := d.fault
	if f.log && failed != noFault {
		d.fault = noFault
	} else {
		failed = noFault
	}
	if failed == loseWrites {
		// As Linux does: the pages count as clean, and are not on the medium.
		f.dirty = map[int]bool{}
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	// Only what counts as dirty is written: what a failed sync lost stays lost.
	for n := range f.dirty {
		f.keepSector(n)
	}
	f.synced, f.dirty = f.synced[:min(len(f.synced), len(f.now))], map[int]bool{}
	if failed == keepWritesButFail {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	return sqlite3.SQLITE_OK
}

func diskFileSize(_ *libc.TLS, p, out uintptr) int32 {
	d, f := file(p)
	if d == nil {
		return sqlite3.SQLITE_IOERR_FSTAT
	}
	defer d.mu.Unlock()
	if f == nil {
		return sqlite3.SQLITE_IOERR_FSTAT
	}
	binary.NativeEndian.PutUint64(libc.GoBytes(out, 8), uint64(len(f.now)))
	return sqlite3.SQLITE_OK
}
