package import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A system call that failed.
package struct SystemCallError: Error, CustomStringConvertible {
    /// The value of `errno`.
    package var number: Int32
    /// The name of the call.
    package var call: String
    /// What made a simulated file system fail the call.
    package var cause: (any Error)?

    package init(_ number: Int32, _ call: String, cause: (any Error)? = nil) {
        self.number = number
        self.call = call
        self.cause = cause
    }

    package var description: String { "\(call): \(String(cString: strerror(number)))" }

    /// Whether there is nothing at the path.
    package var isMissing: Bool { number == ENOENT || number == ENOTDIR }

    /// The error for the caller: `attempt` completes the sentence "cannot …".
    package func explained(_ attempt: String, _ path: String) -> CairnError {
        let (code, advice) = classification
        return CairnError(
            code, "cannot \(attempt): \(String(cString: strerror(number))) (\(call))",
            .init(file: path, advice: advice), cause: cause)
    }

    private var classification: (CairnError.Code, String?) {
        switch number {
        case ENOENT, ENOTDIR:
            (.notFound, nil)
        case EEXIST:
            (.alreadyExists, nil)
        case ENOSPC:
            (.noSpace, "free space on that file system, keep fewer checkpoints, or choose another directory")
        case EDQUOT:
            (.noSpace, "the quota on that file system is used up: delete files or ask for a larger one")
        case EACCES, EPERM:
            (.accessDenied, "check the owner and the mode of the file and of the directories above it")
        case EROFS:
            (.accessDenied, "the file system is mounted read-only: choose another directory")
        case EMFILE, ENFILE:
            (.inputOutput, "too many files are open: raise the limit (ulimit -n)")
        case ENAMETOOLONG:
            (.invalidArgument, "choose a shorter name")
        case EISDIR:
            (.inputOutput, "a directory is in the way")
        case EFBIG:
            (.inputOutput, "the file is larger than the file system or the limit (ulimit -f) allows")
        case EIO:
            (.inputOutput, "the device failed: see the system log, and do not trust what was written since")
        case ESTALE:
            (.inputOutput, "the file server no longer knows the file: mount again")
        default:
            (.inputOutput, nil)
        }
    }
}

/// Repeats an interrupted call. Not for `close`, whose descriptor is gone even then.
package func retryingInterrupted<Value>(
    _ call: () throws(SystemCallError) -> Value
) throws(SystemCallError) -> Value {
    while true {
        do throws(SystemCallError) {
            return try call()
        } catch {
            if error.number != EINTR { throw error }
        }
    }
}
