/// The part of a transformer that one rank computes: some of the layers, and of their matrices some of the heads, of
/// the inner columns and of the tokens, and of the experts some.
package struct TransformerPart: Sendable, Hashable {
    /// The layers of this rank's pipeline stage; the first stage also has the embedding, the last one the head.
    package let layers: Range<Int>
    /// The attention heads whose queries, keys and values are computed here.
    package let heads: Range<Int>
    /// The columns inside the feed-forward part.
    package let inner: Range<Int>
    /// The columns inside each expert.
    package let expertInner: Range<Int>
    /// The experts of each layer that has some.
    package let experts: Range<Int>
    /// The tokens whose vectors and scores are kept here.
    package let vocabulary: Range<Int>
    /// Whether tokens come in here.
    package let isFirstStage: Bool
    /// Whether the loss is computed here.
    package let isLastStage: Bool

    /// The whole model.
    package init(wholeOf configuration: TransformerConfiguration) {
        self.init(of: configuration, layers: 0..<configuration.layers, share: 0, shareCount: 1)
    }

    /// - Parameters:
    ///   - layers: the stage's, not empty.
    ///   - share: which of the `shareCount` parts of each matrix.
    ///   - expertShare: which of the `expertShareCount` parts of the experts.
    package init(
        of configuration: TransformerConfiguration, layers: Range<Int>, share: Int, shareCount: Int,
        expertShare: Int = 0, expertShareCount: Int = 1
    ) {
        self.layers = layers
        heads = Self.balanced(configuration.heads, part: share, of: shareCount)
        inner = Self.balanced(configuration.innerWidth, part: share, of: shareCount)
        expertInner = Self.balanced(configuration.experts?.width ?? 0, part: share, of: shareCount)
        experts = Self.balanced(configuration.experts?.count ?? 0, part: expertShare, of: expertShareCount)
        vocabulary = Self.balanced(configuration.vocabularySize, part: share, of: shareCount)
        isFirstStage = layers.lowerBound == 0
        isLastStage = layers.upperBound == configuration.layers
    }

    /// Part `part` of `0..<count` in `parts` parts that differ by at most one, the larger ones first.
    package static func balanced(_ count: Int, part: Int, of parts: Int) -> Range<Int> {
        func start(_ part: Int) -> Int { count / parts * part + min(part, count % parts) }
        return start(part)..<start(part + 1)
    }
}
