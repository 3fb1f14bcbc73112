//! walk — visits every node of a template's syntax tree and keeps track of the names that the
//! template assigns itself.
//!
//! It follows minijinja's scopes (loops, `with`, macros, blocks). A `set` inside an `if` counts for
//! what follows, whichever branch it stands in: minijinja keeps it too, and a row that skips it
//! gets a fault. What a name means is judged in `check.rs`.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{
    Call, CallArg, Expr, Filter, ForLoop, GetAttr, GetItem, Macro, Spanned, Stmt, Test, Var,
};

use super::check::Walk;
use super::names::MAP;

impl<'a> Walk<'a> {
    fn assigned(&self, name: &str) -> bool {
        self.scopes.iter().flatten().any(|local| *local == name)
    }

    fn assign(&mut self, name: &'a str) {
        self.scopes.last_mut().expect("the outermost scope is never left").push(name);
    }

    /// Walks in a scope of its own that begins with `names`.
    fn scoped(&mut self, names: &[&'a str], inside: impl FnOnce(&mut Self)) {
        self.scopes.push(names.to_vec());
        inside(self);
        self.scopes.pop();
    }

    fn statements(&mut self, body: &[Stmt<'a>]) {
        for statement in body {
            self.statement(statement);
        }
    }

    pub(super) fn statement(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(emit) => self.raw(emit.raw, emit.span()),
            Stmt::ForLoop(for_loop) => self.for_loop(for_loop),
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                self.statements(&condition.true_body);
                self.statements(&condition.false_body);
            }
            Stmt::WithBlock(with) => self.scoped(&[], |walk| {
                for (target, expression) in &with.assignments {
                    walk.expression(expression);
                    walk.target(target);
                }
                walk.statements(&with.body);
            }),
            Stmt::Set(set) => {
                self.expression(&set.expr);
                self.target(&set.target);
            }
            Stmt::SetBlock(set) => {
                self.scoped(&[], |walk| walk.statements(&set.body));
                self.optional(set.filter.as_ref());
                self.target(&set.target);
            }
            Stmt::AutoEscape(block) => {
                self.expression(&block.enabled);
                self.statements(&block.body);
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter);
                self.statements(&block.body);
            }
            Stmt::Block(block) => self.scoped(&["super"], |walk| walk.statements(&block.body)),
            Stmt::Macro(declared) => self.declare(declared),
            Stmt::CallBlock(block) => {
                self.call(&block.call);
                self.macro_body(&block.macro_decl);
            }
            Stmt::Do(block) => self.call(&block.call),
            Stmt::Import(node) => self.another_file(node.span()),
            Stmt::FromImport(node) => self.another_file(node.span()),
            Stmt::Extends(node) => self.another_file(node.span()),
            Stmt::Include(node) => self.another_file(node.span()),
        }
    }

    fn for_loop(&mut self, node: &ForLoop<'a>) {
        self.expression(&node.iter);
        self.scoped(&["loop"], |walk| {
            walk.target(&node.target);
            walk.optional(node.filter_expr.as_ref());
            walk.statements(&node.body);
        });
        self.scoped(&[], |walk| walk.statements(&node.else_body));
    }

    fn declare(&mut self, declared: &Macro<'a>) {
        self.assign(declared.name);
        self.macro_body(declared);
    }

    fn macro_body(&mut self, declared: &Macro<'a>) {
        self.scoped(&["caller"], |walk| {
            for argument in &declared.args {
                walk.target(argument);
            }
            for default in &declared.defaults {
                walk.expression(default);
            }
            walk.statements(&declared.body);
        });
    }

    /// What an assignment assigns to.
    fn target(&mut self, target: &Expr<'a>) {
        match target {
            Expr::Var(variable) => self.assign(variable.id),
            Expr::List(list) => list.items.iter().for_each(|item| self.target(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.target(item)),
            other => self.expression(other),
        }
    }

    fn optional(&mut self, expression: Option<&Expr<'a>>) {
        if let Some(expression) = expression {
            self.expression(expression);
        }
    }

    fn expressions<'e>(&mut self, all: impl IntoIterator<Item = &'e Expr<'a>>)
    where
        'a: 'e,
    {
        for expression in all {
            self.expression(expression);
        }
    }

    fn expression(&mut self, expression: &Expr<'a>) {
        match expression {
            Expr::Const(_) => {}
            Expr::Var(name) => self.name(name),
            Expr::GetAttr(get) => self.get_attribute(get),
            Expr::GetItem(get) => self.get_item(get),
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                self.expressions(slice.start.iter().chain(&slice.stop).chain(&slice.step));
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::BinOp(binary) => self.expressions([&binary.left, &binary.right]),
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                self.expressions(compare.ops.iter().map(|operand| &operand.expr));
            }
            Expr::IfExpr(choice) => {
                self.expressions([&choice.test_expr, &choice.true_expr]);
                self.optional(choice.false_expr.as_ref());
            }
            Expr::Filter(filter) => self.apply_filter(filter),
            Expr::Test(test) => self.apply_test(test),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.expressions(&list.items),
            Expr::Tuple(tuple) => self.expressions(&tuple.items),
            Expr::Map(map) => self.expressions(map.keys.iter().chain(&map.values)),
        }
    }

    fn name(&mut self, name: &Spanned<Var<'a>>) {
        if !self.assigned(name.id) {
            self.variable(name.id, name.span());
        }
    }

    fn get_attribute(&mut self, get: &Spanned<GetAttr<'a>>) {
        match self.outer_variable(&get.expr) {
            Some(name) => self.attribute(name, get.name, get.span()),
            None => self.expression(&get.expr),
        }
    }

    fn get_item(&mut self, get: &Spanned<GetItem<'a>>) {
        let key = get.subscript_expr.as_const();
        match (self.outer_variable(&get.expr), key.as_ref().and_then(|key| key.as_str())) {
            (Some(MAP), Some(key)) => self.key_of_map(key, get.span()),
            _ => self.expressions([&get.expr, &get.subscript_expr]),
        }
    }

    /// The name of a variable that the template did not assign itself.
    fn outer_variable(&self, expression: &Expr<'a>) -> Option<&'a str> {
        match expression {
            Expr::Var(variable) if !self.assigned(variable.id) => Some(variable.id),
            _ => None,
        }
    }

    fn apply_filter(&mut self, node: &Spanned<Filter<'a>>) {
        self.filter(node.name, node.span());
        match (node.name, node.args.first()) {
            ("map", Some(CallArg::Pos(name))) => self.named(name, Self::filter),
            ("select" | "reject", Some(CallArg::Pos(name))) => self.named(name, Self::test),
            _ => {}
        }
        self.optional(node.expr.as_ref());
        self.arguments(&node.args);
    }

    fn apply_test(&mut self, node: &Spanned<Test<'a>>) {
        self.test(node.name, node.span());
        self.expression(&node.expr);
        self.arguments(&node.args);
    }

    /// Judges a filter or test that is named by a constant text, as in `map("upper")`.
    fn named(&mut self, name: &Expr<'a>, judge: impl FnOnce(&mut Self, &str, Span)) {
        if let Some(text) = name.as_const().as_ref().and_then(|value| value.as_str()) {
            judge(self, text, name.span());
        }
    }

    fn call(&mut self, call: &Spanned<Call<'a>>) {
        match &call.expr {
            Expr::Var(name) => {
                if !self.assigned(name.id) {
                    self.function(name.id, name.span());
                }
            }
            Expr::GetAttr(get) => match self.outer_variable(&get.expr) {
                Some(name) => self.method(name, get.name, get.span()),
                None => self.expression(&get.expr),
            },
            other => self.expression(other),
        }
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &[CallArg<'a>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(expression)
                | CallArg::Kwarg(_, expression)
                | CallArg::PosSplat(expression)
                | CallArg::KwargSplat(expression) => self.expression(expression),
            }
        }
    }
}
