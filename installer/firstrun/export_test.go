package firstrun

import "context"

// RunFailingAt runs the plan with one step replaced by a failure.
func (p *Plan) RunFailingAt(ctx context.Context, step int, failure error) error {
	p.steps[step].Do = func(context.Context) error { return failure }
	_, err := p.Run(ctx, nil)
	return err
}

// RandomChallenge is what a first run writes into the challenge's file.
var RandomChallenge = randomChallenge
