// Package expr compiles and evaluates the expressions of the mapping, where and expr, which
// are written in expr-lang over the columns of a table. docs/expressions.md says what there is.
//
// [CompileCondition] and [Compile] check the text against the types of the columns; an [*Error]
// says what is wrong with it. An [Expression] is evaluated on the text of a row's values. It is
// the only package that imports expr-lang.
package expr
