package import Testing

extension Tag {
    /// Takes seconds rather than milliseconds.
    @Tag package static var slow: Self
    /// Lets the power go, or calls fail, at every point of some work.
    @Tag package static var crash: Self
    /// Reads what is damaged at random.
    @Tag package static var fuzz: Self
}
