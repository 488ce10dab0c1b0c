import Cairn

/// The bytes of a data file.
func readFile(_ path: String) throws -> [UInt8] {
    let place = try LocalStorage.locate(path)
    return try place.storage.readAll(place.key, limit: 1 << 30)
}
