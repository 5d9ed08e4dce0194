//! The expression language of validation rules: which part of it is supported, how an object is presented to it, and
//! how expressions run.
//!
//! An expression is supported if this server evaluates it exactly and it cannot bring the process down: it is of
//! limited size; uses the standard operators, macros and functions, and `duration` in comparisons; and has no
//! comprehension inside another, because nothing limits its cost. Other expressions are refused when the CRD is
//! created, with an error that names the unsupported part.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::common::types::CelOptional;
use cel::common::value::Val;
use cel::{Context, Env, ExecutionError, Value as CelValue, extensions};

use super::cel_input::{CelInput, duration, escape};
use super::node::SchemaNode;

/// The longest expression, bytes.
const MAX_BYTES: usize = 1024;
/// The deepest nesting of brackets. The parser recurses, and a thread that serves requests has a small stack: with
/// these limits the parser uses at most a quarter of 2 MiB in a debug build.
const MAX_NESTING: usize = 12;

/// The supported operators, by their names in the parser.
const OPERATORS: [&str; 19] = [
    "_?_:_",
    "_&&_",
    "_||_",
    "!_",
    "_-_",
    "_+_",
    "_*_",
    "_/_",
    "_%_",
    "_==_",
    "_!=_",
    "_>=_",
    "_<=_",
    "_>_",
    "_<_",
    "-_",
    "_[_]",
    "@in",
    "@not_strictly_false",
];

const FUNCTIONS: [&str; 29] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "type",
    "dyn",
    "duration",
    "hasValue",
    "value",
    "orValue",
    "or",
    "optional.of",
    "optional.none",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "lowerAscii",
    "upperAscii",
    "replace",
    "split",
    "substring",
    "trim",
    "join",
];

/// Names of types.
const TYPES: [&str; 9] = ["int", "uint", "double", "string", "bool", "list", "map", "null_type", "bytes"];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Cannot fail: no other extension was added.
    let _ = env.add_extension(extensions::strings);
    Arc::new(env)
});

/// A supported expression.
#[derive(Debug)]
pub(super) struct Expression {
    tree: IdedExpr,
    /// Whether the expression uses the previous version of the object.
    pub(super) uses_old: bool,
}

/// The schema of `self`.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) node: &'a SchemaNode,
    /// Whether this is a whole resource, whose name and kind are available.
    pub(super) resource: bool,
}

/// The variables, and the schema of each where it is known.
type Scope<'a> = Vec<(String, Option<&'a SchemaNode>)>;

impl Expression {
    /// Parses an expression. The error names what is not supported.
    pub(super) fn read(source: &str, subject: Subject<'_>) -> Result<Self, String> {
        if source.len() > MAX_BYTES {
            return Err(format!("must be at most {MAX_BYTES} bytes long on this server"));
        }
        if nesting_depth(source) > MAX_NESTING {
            return Err(format!("brackets may be nested at most {MAX_NESTING} deep on this server"));
        }
        let tree = ENV.parser().max_recursion_depth(64).parse(source).map_err(|error| {
            let error = error.to_string();
            format!("compilation failed: ERROR: {}", error.trim_start_matches("ERROR: "))
        })?;
        let mut scope: Scope<'_> =
            vec![("self".to_owned(), Some(subject.node)), ("oldSelf".to_owned(), Some(subject.node))];
        let mut checker = Checker { subject, uses_old: false };
        checker.check(&tree, &mut scope, false)?;
        let uses_old = checker.uses_old;
        Ok(Self { tree, uses_old })
    }

    /// Evaluates the expression. Errors have the text of the real server as far as it is known.
    pub(super) fn run(
        &self,
        new: CelInput<'_>,
        old: Option<CelInput<'_>>,
        optional_old: bool,
    ) -> Result<CelValue, String> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        let _ = context.add_function("duration", duration);
        context.add_variable_from_value("self", new.to_cel());
        match (old, optional_old) {
            (Some(old), false) => context.add_variable_from_value("oldSelf", old.to_cel()),
            (old, true) => {
                let value: Option<Box<dyn Val>> = old.and_then(|old| old.to_cel().try_into().ok());
                let optional = value.map_or_else(CelOptional::none, CelOptional::of);
                context.add_variable_as_val("oldSelf", Box::new(optional));
            }
            (None, false) => {}
        }
        CelValue::resolve(&self.tree, &context).map_err(|error| match error {
            ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
            ExecutionError::NoSuchOverload(_) => "no such overload".to_owned(),
            ExecutionError::FunctionError { message, .. } => message,
            ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
            ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
            ExecutionError::Overflow(..) => "integer overflow".to_owned(),
            other => other.to_string(),
        })
    }
}

fn nesting_depth(source: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in source.bytes() {
        match byte {
            // Negations nest as well; they are counted in `longest_run`.
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest + longest_run(source)
}

/// Returns the longest run of `!` and `-`, or the number of `?` if that is larger: each of these nests.
fn longest_run(source: &str) -> usize {
    let (mut run, mut longest) = (0_usize, 0);
    for byte in source.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        run = if matches!(byte, b'!' | b'-') { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest.max(source.matches('?').count())
}

/// What the schema of an object has for a field.
enum FieldSchema<'a> {
    /// The field has this schema.
    Known(&'a SchemaNode),
    /// The field may exist, and its schema is not known.
    Unknown,
    /// The object has no such field.
    Undeclared,
}

struct Checker<'a> {
    subject: Subject<'a>,
    uses_old: bool,
}

impl<'a> Checker<'a> {
    fn check(&mut self, tree: &IdedExpr, scope: &mut Scope<'a>, within: bool) -> Result<(), String> {
        match &tree.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => {
                self.uses_old |= name == "oldSelf";
                let known = scope.iter().any(|(known, _)| known == name) || TYPES.contains(&name.as_str());
                if known { Ok(()) } else { Err(undeclared(name)) }
            }
            Expr::Select(select) => {
                self.check(&select.operand, scope, within)?;
                let node = self.schema_of(&select.operand, scope);
                if node.is_some_and(|node| matches!(self.field(node, &select.field), FieldSchema::Undeclared)) {
                    return Err(format!("compilation failed: ERROR: undefined field '{}'", select.field));
                }
                Ok(())
            }
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let qualified = match call.target.as_ref().map(|target| &target.expr) {
                    Some(Expr::Ident(space)) if space == "optional" => format!("optional.{name}"),
                    _ => name.to_owned(),
                };
                if !OPERATORS.contains(&name) && !FUNCTIONS.contains(&qualified.as_str()) {
                    return Err(undeclared(name));
                }
                if let Some(target) = &call.target
                    && qualified == name
                {
                    self.check(target, scope, within)?;
                }
                call.args.iter().try_for_each(|arg| self.check(arg, scope, within))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|item| self.check(item, scope, within)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.check(&entry.key, scope, within)?;
                    self.check(&entry.value, scope, within)
                }
                EntryExpr::StructField(_) => Err("messages are not supported on this server".to_owned()),
            }),
            Expr::Struct(_) => Err("messages are not supported on this server".to_owned()),
            Expr::Comprehension(comprehension) => {
                if within {
                    return Err("a comprehension within another is not supported on this server".to_owned());
                }
                self.check(&comprehension.iter_range, scope, within)?;
                let range = self.schema_of(&comprehension.iter_range, scope);
                let length = scope.len();
                scope.push((comprehension.iter_var.clone(), range.and_then(|range| range.items.as_deref())));
                scope.extend(comprehension.iter_var2.iter().map(|name| (name.clone(), None)));
                scope.push((comprehension.accu_var.clone(), None));
                let parts = [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ];
                let checked = parts.into_iter().try_for_each(|part| self.check(part, scope, true));
                scope.truncate(length);
                checked
            }
        }
    }

    /// Returns the schema of the value of `tree`, if `tree` is a path.
    fn schema_of(&self, tree: &IdedExpr, scope: &Scope<'a>) -> Option<&'a SchemaNode> {
        match &tree.expr {
            Expr::Ident(name) => scope.iter().rev().find(|(known, _)| known == name).and_then(|(_, node)| *node),
            Expr::Select(select) => match self.field(self.schema_of(&select.operand, scope)?, &select.field) {
                FieldSchema::Known(node) => Some(node),
                FieldSchema::Unknown | FieldSchema::Undeclared => None,
            },
            Expr::Call(call) if call.func_name == "_[_]" => {
                let node = self.schema_of(call.args.first()?, scope)?;
                node.items.as_deref().or_else(|| node.additional())
            }
            _ => None,
        }
    }

    /// Looks a field up in the schema of an object.
    fn field(&self, node: &'a SchemaNode, name: &str) -> FieldSchema<'a> {
        let resource = node.embedded || self.subject.resource && std::ptr::eq(node, self.subject.node);
        if node.kind != "object" || resource && matches!(name, "apiVersion" | "kind" | "metadata") {
            return FieldSchema::Unknown;
        }
        let declared = node.properties.iter().find(|(property, _)| escape(property) == name).map(|(_, node)| node);
        let additional = || if node.properties.is_empty() && !node.preserve { node.additional() } else { None };
        declared.or_else(additional).map_or(FieldSchema::Undeclared, FieldSchema::Known)
    }
}

fn undeclared(name: &str) -> String {
    format!("compilation failed: ERROR: undeclared reference to '{name}' (in container '')")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parser recurses. Without the limits these expressions abort the process.
    #[test]
    fn no_expression_aborts_the_process() {
        let node = SchemaNode { kind: "object".to_owned(), ..SchemaNode::default() };
        let sources = [
            "(".repeat(600) + &")".repeat(400),
            "(".repeat(500) + "1" + &")".repeat(500),
            "[".repeat(MAX_NESTING) + &"]".repeat(MAX_NESTING),
            "!".repeat(1000) + "true",
            "-".repeat(1000) + "1",
            "1+".repeat(500) + "1",
            "true && ".repeat(100) + "true",
            "true ? ".repeat(100) + "1" + &" : 2".repeat(100),
            "self".to_owned() + &".a".repeat(500),
            "self".to_owned() + &"[0]".repeat(300),
            "f(".repeat(12) + &")".repeat(12),
            "\u{0}\u{ffff}\"'".repeat(100),
        ];
        // A test thread has the same stack as a tokio worker: 2 MiB.
        for source in sources {
            drop(Expression::read(&source, Subject { node: &node, resource: false }));
        }
    }
}
