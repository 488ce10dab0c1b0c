import CairnBase
import CairnYAML

extension YAMLField {
    func expression() throws(CairnError) -> IntegerExpression {
        let text = try text()
        do throws(CairnError) {
            _ = try ArithmeticParser.parse(text)
        } catch {
            throw self.error(error.message, found: text.debugDescription)
        }
        return IntegerExpression(text)
    }

    func expressions() throws(CairnError) -> [IntegerExpression] {
        var result: [IntegerExpression] = []
        for element in try list() { result.append(try element.expression()) }
        return result
    }
}
