import CCairnSystem
package import CairnBase
package import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A file that is memory, and belongs to whoever has it open: it lives as long as one process does.
package final class KeptMemory: Sendable {
    package let descriptor: FileDescriptor
    /// Its size in bytes.
    package let capacity: Int

    /// Reserves memory: it is there when this returns, so that writing never fails for want of it.
    package init(capacity: Int, name: String) throws(CairnError) {
        let number = cairn_memory_file(name)
        guard number >= 0 else {
            throw SystemCallError(errno, "memfd_create").explained("make a file in memory", name)
        }
        descriptor = FileDescriptor(PosixFileSystem(), adopting: number)
        self.capacity = capacity
        guard capacity > 0 else { return }
        do throws(SystemCallError) {
            try descriptor.allocate(byteCount: capacity)
        } catch {
            throw error.explained("reserve \(capacity) bytes of memory", name)
        }
    }

    /// From now on nobody can change its size.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when somebody has changed it before.
    package func seal(_ name: String) throws(CairnError) {
        guard cairn_seal_size(descriptor.number) == 0 else {
            throw SystemCallError(errno, "fcntl(F_ADD_SEALS)").explained("seal the size of", name)
        }
        let found: Int
        do throws(SystemCallError) {
            found = try descriptor.status.byteCount
        } catch {
            throw error.explained("look at", name)
        }
        guard found == capacity else {
            throw CairnError(
                .mismatch, "the writer changed the size of the memory",
                .init(file: name, expected: "\(capacity) bytes", found: "\(found) bytes"))
        }
    }

    /// The same memory, which can only be read through what this returns.
    package func readOnly(_ name: String) throws(CairnError) -> FileDescriptor {
        do throws(SystemCallError) {
            guard let another = try descriptor.reopened() else { throw SystemCallError(ENOTSUP, "open") }
            return another
        } catch {
            throw error.explained("open for reading", name)
        }
    }

    /// Reads bytes of it.
    package func bytes(_ range: Range<Int>) throws(CairnError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: range.count)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        let found: Int
        do throws(SystemCallError) {
            found = try raw.withUnsafeMutableBytes { buffer throws(SystemCallError) in
                try descriptor.readFully(at: range.lowerBound, into: buffer)
            }
        } catch {
            throw error.explained("read", "memory")
        }
        guard found == range.count else { throw CairnError(.incomplete, "the memory ends too early") }
        return bytes
    }

    /// Writes bytes into it.
    package func write(_ bytes: [UInt8], at offset: Int) throws(CairnError) {
        do throws(SystemCallError) {
            try bytes.span.bytes.withUnsafeBytes { buffer throws(SystemCallError) in
                try descriptor.writeFully(at: offset, from: buffer)
            }
        } catch {
            throw error.explained("write", "memory")
        }
    }
}
