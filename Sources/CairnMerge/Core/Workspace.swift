import Synchronization

/// Memory that one thread computes in, kept from one piece of work to the next.
///
/// `@unchecked Sendable`: only one thread has it at a time, as ``WorkspacePool`` hands it on.
final class Workspace: @unchecked Sendable {
    private static let alignment = 4096
    private var buffers: [UnsafeMutableRawBufferPointer] = []

    deinit { for buffer in buffers { buffer.deallocate() } }

    /// The buffer of a number, with at least so many bytes and whatever is in it. It stays until another size is asked for.
    func buffer(_ index: Int, byteCount: Int) -> UnsafeMutableRawBufferPointer {
        while buffers.count <= index { buffers.append(.init(start: nil, count: 0)) }
        if buffers[index].count < byteCount {
            buffers[index].deallocate()
            buffers[index] = .allocate(byteCount: byteCount, alignment: Self.alignment)
        }
        return UnsafeMutableRawBufferPointer(rebasing: buffers[index][..<byteCount])
    }
}

/// Workspaces that no thread has.
final class WorkspacePool: Sendable {
    private let idle = Mutex<[Workspace]>([])

    func with<Result>(_ body: (Workspace) throws -> Result) rethrows -> Result {
        let workspace = idle.withLock { $0.popLast() } ?? Workspace()
        defer { idle.withLock { $0.append(workspace) } }
        return try body(workspace)
    }
}

/// Memory that several threads fill, each its own part.
///
/// `@unchecked Sendable`: its owner hands out parts that do not overlap, and waits for all threads.
struct SharedMemory: @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer
}
